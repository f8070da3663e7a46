"""Secrets that come from files of their own: the user's, for services that are not ours, and the roles that `db-role` makes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mlflow_onprem.core.errors import ConfigError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings import db_roles, shared_credentials, topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.credentials import Credentials
from mlflow_onprem.settings.db_roles import DbRole
from mlflow_onprem.settings.topology import ExternalStore, LocalPostgres


@dataclass(frozen=True)
class External:
    """What an external store and an external database want to see, None where ours is used; and the roles in our own database."""

    s3: tuple[str, Secret] | None = None
    postgres_password: Secret | None = None
    roles: tuple[DbRole, ...] = ()

    def adopted(self, credentials: Credentials) -> Credentials:
        """The credentials with the user's own secrets in the place of ours."""
        if self.s3 is not None:
            credentials = dataclasses.replace(credentials, s3_access_key=self.s3[0], s3_secret_key=self.s3[1])
        if self.postgres_password is not None:
            credentials = dataclasses.replace(credentials, postgres_password=self.postgres_password)
        return credentials


def read(host: Host, config: Config) -> External:
    """Read the files that the configuration names. Raises ConfigError where one is missing or unreadable, NotVisible for other users."""
    s3 = password = None
    local = isinstance(topology.postgres(config), LocalPostgres)
    if isinstance(topology.store(config.minio), ExternalStore):
        assert config.minio.credentials_file is not None
        key = shared_credentials.parse(config.minio.credentials_file, _text(host, config.minio.credentials_file, "minio.credentials_file"))
        s3 = key.access_key, key.secret_key
    if not local:
        assert config.postgres.password_file is not None
        text = _text(host, config.postgres.password_file, "postgres.password_file").strip()
        if not text or "\n" in text:
            raise ConfigError(f"{config.postgres.password_file} must hold the password on one line", "")
        password = Secret(text)
    return External(s3, password, db_roles.read(host) if local else ())


def _text(host: Host, path: str, key: str) -> str:
    content = host.read(path)
    if content is None:
        raise ConfigError(f"{key}: there is no file {path}", "write it with mode 0600, owned by root")
    return content.decode(errors="replace")
