"""What backup and restore work with on one host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow_onprem import credentials as credentials_module
from mlflow_onprem.assembly import Assembly, assemble
from mlflow_onprem.backup import database
from mlflow_onprem.backup.objects import Bucket
from mlflow_onprem.backup.repository import SPOOL, Repository
from mlflow_onprem.backup.s3 import connect
from mlflow_onprem.backup.vault import Keys
from mlflow_onprem.config import Config
from mlflow_onprem.errors import Refused
from mlflow_onprem.host import LocalHost
from mlflow_onprem.stages import minio


@dataclass(frozen=True)
class Workplace:
    """A host with the stack, a repository, and a folder for files on their way (`spool`)."""

    host: LocalHost
    assembly: Assembly
    repository: Repository
    keys: Keys
    bucket: Bucket
    server: database.Server
    spool: Path

    @property
    def config(self) -> Config:
        return self.assembly.config

    def databases(self) -> dict[str, str]:
        """The databases by what they are for."""
        config = self.config
        tracking = config.postgres.database if config.postgres.mode == "local" else self.assembly.external.database
        return {"mlflow": tracking} | ({"auth": config.mlflow.auth.database} if config.mlflow.auth.enabled else {})

    def owner(self) -> str:
        """The role that owns them."""
        return self.config.postgres.user if self.config.postgres.mode == "local" else self.assembly.external.role


def installed(host: LocalHost) -> bool:
    """Whether this host was ever given a stack."""
    return host.read(credentials_module.PATH) is not None


def enter(host: LocalHost, config: Config, repository: Repository, keys: Keys, assembly: Assembly | None = None) -> Workplace:
    """Connect to what is on this host; nothing is changed but the spool, which is emptied. Raises Refused where no stack is."""
    if not installed(host):
        raise Refused("there is no stack on this host", "sudo mlflow-onprem install, or sudo mlflow-onprem restore ID --from ...")
    assembly = assembly or assemble(host, config)
    found, ours = assembly.credentials, config.minio.mode == "local"
    access_key, secret_key = (found.minio_root_user, found.minio_root_password) if ours else (found.s3_access_key, found.s3_secret_key)
    client = connect(minio.endpoint(config.minio), access_key, secret_key, config.minio.region)
    host.remove(SPOOL)
    host.mkdir(SPOOL, mode=0o700, owner="root", group="root")
    server = database.server(host, assembly.sql, config.postgres.mode, config.postgres.port, config.postgres.url)
    return Workplace(host, assembly, repository, keys, Bucket(client, config.minio.bucket), server, host.local(SPOOL))
