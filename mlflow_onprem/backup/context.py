"""What backup and restore work with on one host."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlflow_onprem.backup import database, known_names
from mlflow_onprem.backup.bucket import Bucket
from mlflow_onprem.backup.encryption import Keys
from mlflow_onprem.backup.manifest import Manifest
from mlflow_onprem.backup.repository import SPOOL, Repository
from mlflow_onprem.backup.s3 import connect
from mlflow_onprem.clients import store_disk
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.settings import credentials as credentials_module
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.topology import LocalStore
from mlflow_onprem.stack.assembly import Assembly, assemble
from mlflow_onprem.system.local_host import LocalHost


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
        tracking = topology.postgres(config).database
        return {"mlflow": tracking} | ({"auth": config.mlflow.auth.database} if config.mlflow.auth.enabled else {})

    def owner(self) -> str:
        """The role that owns them."""
        return topology.postgres(self.config).role


def installed(host: LocalHost) -> bool:
    """Whether this host was ever given a stack."""
    return host.read(credentials_module.PATH) is not None


def must_be_installed(host: LocalHost) -> None:
    """Raises Refused where no stack is."""
    if not installed(host):
        raise Refused("there is no stack on this host", "sudo mlflow-onprem install, or sudo mlflow-onprem restore ID --from ...")


def enter(host: LocalHost, config: Config, repository: Repository, keys: Keys, assembly: Assembly | None = None) -> Workplace:
    """Connect to what is on this host; nothing is changed but the spool, which is emptied. Raises Refused where no stack is."""
    must_be_installed(host)
    assembly = assembly or assemble(host, config)
    host.remove(SPOOL)
    host.mkdir(SPOOL, mode=0o700, owner="root", group="root")
    server = database.server(host, assembly.sql, topology.postgres(config))
    return Workplace(host, assembly, repository, keys, bucket(host, assembly), server, host.local(SPOOL))


def bucket(host: LocalHost, assembly: Assembly) -> Bucket:
    """The stack's bucket, with what its listing is compared with."""
    found, settings = assembly.credentials, assembly.config.minio
    store = topology.store(settings)
    client = connect(store.endpoint, *store.administrator(found), settings.region)
    if isinstance(store, LocalStore):
        return Bucket(client, settings.bucket, store_disk.bucket_folder(host.local(settings.data_dir), settings.bucket))
    database = topology.postgres(assembly.config).database
    return Bucket(client, settings.bucket, names=lambda: known_names.keys(partial(assembly.sql.query, database), settings.bucket))


def own_bucket(host: LocalHost, config: Config, manifest: Manifest) -> Bucket | None:
    """The bucket that a backup is of, where this host has it and its store answers; otherwise None, said aloud."""
    if not installed(host) or manifest.bucket != config.minio.bucket:
        return None
    assembly = assemble(host, config)
    try:
        if manifest.host != assembly.facts.names[0]:
            return None
        found = bucket(host, assembly)
        next(found.listed(), None)
        return found
    except OnPremError as failed:
        host.say(f"the backup could not be compared with the bucket it is of: {failed.message}")
        return None
    finally:
        assembly.close()
