"""AWS's shared credentials file: how a key for an S3 store is handed over, to us and by us."""

from __future__ import annotations

import configparser
from dataclasses import dataclass

from mlflow_onprem.core.errors import ConfigError
from mlflow_onprem.core.secret import Secret

NEEDED = "it needs [default] with aws_access_key_id = ... and aws_secret_access_key = ..."


@dataclass(frozen=True)
class S3Key:
    """A key, with where it counts if its file says that."""

    access_key: str
    secret_key: Secret
    endpoint: str | None = None
    region: str | None = None


def parse(path: str, text: str, hint: str = NEEDED) -> S3Key:
    """The key of [default]. Raises ConfigError without anything of the file's content."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        section = parser["default"]
        key = section["aws_access_key_id"], Secret(section["aws_secret_access_key"])
        return S3Key(*key, section.get("endpoint_url"), section.get("region"))
    except (configparser.Error, KeyError):
        raise ConfigError(f"{path} is not an AWS shared credentials file", hint) from None


def write(access_key: str, secret_key: Secret) -> Secret:
    """The text of such a file."""
    return Secret(f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret_key.reveal()}\n")
