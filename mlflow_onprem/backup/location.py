"""Where backups are kept: a folder, or a bucket of any S3 store."""

from __future__ import annotations

from urllib.parse import urlsplit

from mlflow_onprem.backup.repository import Folder, Repository
from mlflow_onprem.core.errors import ConfigError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings import shared_credentials

DEFAULT_ENDPOINT = "https://s3.amazonaws.com"


def open_repository(host: Host, address: str, credentials_file: str | None) -> Repository:
    """The repository at a folder's path or s3://bucket/prefix. Raises ConfigError where its credentials are missing."""
    if not address.startswith("s3://"):
        return Folder(host, address)
    from mlflow_onprem.backup.s3 import connect
    from mlflow_onprem.backup.s3_repository import S3Repository

    if credentials_file is None:
        raise ConfigError(f"{address} needs credentials", "name an AWS shared credentials file: credentials_file in [backup], or --credentials-file")
    access_key, secret_key, endpoint, region = read_credentials(host, credentials_file)
    parts = urlsplit(address)
    try:
        client = connect(endpoint, access_key, secret_key, region)
    except ValueError as wrong:
        raise ConfigError(
            f"{credentials_file}: endpoint_url or region is not right: {wrong}", "write it as endpoint_url = https://host:port"
        ) from None
    return S3Repository(client, parts.netloc, parts.path.strip("/"))


def read_credentials(host: Host, path: str) -> tuple[str, Secret, str, str]:
    """Access key, secret key, endpoint and region of an AWS shared credentials file with `endpoint_url` and `region` in it. Raises ConfigError."""
    content = host.read(path)
    if content is None:
        raise ConfigError(f"there is no file {path}", "write it with mode 0600, owned by root")
    hint = "it needs [default] with aws_access_key_id and aws_secret_access_key; elsewhere than Amazon, endpoint_url = https://..."
    key = shared_credentials.parse(path, content.decode(errors="replace"), hint)
    return key.access_key, key.secret_key, key.endpoint or DEFAULT_ENDPOINT, key.region or "us-east-1"
