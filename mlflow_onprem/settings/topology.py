"""Which object store and which PostgreSQL this stack uses, as two values: ours on this host, or somebody else's.

Each answers by the same names what follows from it, so that nobody else has to ask which of the two it is; where only one of them
makes sense (a data folder, a role that may not create databases), `isinstance` says so.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings.config import Config, MinioSection
from mlflow_onprem.settings.credentials import Credentials
from mlflow_onprem.system import clusters

MLFLOW_UNIT = "mlflow.service"


@dataclass(frozen=True)
class LocalStore:
    """The store that this stack runs. `endpoint` is where this host itself reaches it; `ports` and `binds` are by their settings' names."""

    endpoint: str
    folders: tuple[str, ...]
    user: str
    ports: tuple[tuple[str, int], ...]
    binds: tuple[tuple[str, str], ...]
    units: tuple[str, ...] = ("minio.service",)

    def administrator(self, credentials: Credentials) -> tuple[str, Secret]:
        """The key that may do most: the store's root account."""
        return credentials.minio_root_user, credentials.minio_root_password


@dataclass(frozen=True)
class ExternalStore:
    """Somebody else's store: nothing of it is on this host."""

    endpoint: str
    folders: tuple[str, ...] = ()
    ports: tuple[tuple[str, int], ...] = ()
    binds: tuple[tuple[str, str], ...] = ()
    units: tuple[str, ...] = ()

    def administrator(self, credentials: Credentials) -> tuple[str, Secret]:
        """The key that may do most: the one and only that its owner gave us."""
        return credentials.s3_access_key, credentials.s3_secret_key


@dataclass(frozen=True)
class LocalPostgres:
    """The cluster of this host. `database` and `accounts` are MLflow's (None without accounts), `role` owns both."""

    database: str
    accounts: str | None
    role: str
    port: int
    host: str = "127.0.0.1"

    @property
    def databases(self) -> tuple[str, ...]:
        return _databases(self)

    @property
    def ports(self) -> tuple[tuple[str, int], ...]:
        return (("postgres.port", self.port),)

    def uri(self, database: str) -> str:
        """SQLAlchemy's address, without a password: by unix socket, where the operating system says who asks."""
        return f"postgresql+psycopg://{quote(self.role)}@/{database}?host={clusters.SOCKETS}&port={self.port}"

    def login(self, password: Secret) -> dict[str, str | Secret]:
        """How the role logs in with a password: over TCP, the only way on which one counts."""
        return {"host": self.host, "port": str(self.port), "user": self.role, "password": password}


@dataclass(frozen=True)
class ExternalPostgres:
    """Somebody else's server. `where` is user@host:port as libpq writes it, `query` its other parameters (sslmode=require)."""

    database: str
    accounts: str | None
    role: str
    port: int
    host: str
    where: str
    query: str

    @property
    def databases(self) -> tuple[str, ...]:
        return _databases(self)

    @property
    def ports(self) -> tuple[tuple[str, int], ...]:
        """Of this host: none."""
        return ()

    def uri(self, database: str) -> str:
        """SQLAlchemy's address, without a password."""
        return f"postgresql+psycopg://{self.where}/{database}{f'?{self.query}' if self.query else ''}"

    def login(self, password: Secret) -> dict[str, str | Secret]:
        """How the role logs in with a password."""
        return {"host": self.host, "port": str(self.port), "user": self.role, "password": password, **dict(parse_qsl(self.query))}


Store = LocalStore | ExternalStore
Postgres = LocalPostgres | ExternalPostgres


def store(config: MinioSection) -> Store:
    """The store of this configuration."""
    if config.mode == "external":
        assert config.endpoint is not None
        return ExternalStore(config.endpoint)
    bind = ipaddress.ip_address(config.bind)
    loopback = "127.0.0.1" if bind.version == 4 else "[::1]"
    address = f"[{bind}]" if bind.version == 6 else str(bind)
    folders = tuple(each for each in config.volumes if each.startswith("/") and "{" not in each) if config.volumes else (config.data_dir,)
    return LocalStore(
        f"http://{loopback if bind.is_unspecified else address}:{config.port}",
        folders,
        config.user,
        (("minio.port", config.port), ("minio.console_port", config.console_port)),
        (("minio.bind", config.bind), ("minio.console_bind", config.console_bind)),
    )


def postgres(config: Config) -> Postgres:
    """The database server of this configuration."""
    settings, accounts = config.postgres, config.mlflow.auth.database if config.mlflow.auth.enabled else None
    if settings.mode == "local":
        return LocalPostgres(settings.database, accounts, settings.user, settings.port)
    assert settings.url is not None
    parts = urlsplit(settings.url)
    return ExternalPostgres(
        parts.path.strip("/"), accounts, parts.username or "", parts.port or 5432, parts.hostname or "", parts.netloc, parts.query
    )


def units(config: Config, postgres_unit: str | None) -> dict[str, str]:
    """The stack's units on this host with what users call each; `postgres_unit` is its cluster's, None where that is not known or not ours."""
    postgres = {postgres_unit: "postgres"} if postgres_unit is not None else {}
    return {**dict.fromkeys(store(config.minio).units, "minio"), **postgres, MLFLOW_UNIT: "mlflow"}


def _databases(of: Postgres) -> tuple[str, ...]:
    """MLflow's database and, with accounts, theirs."""
    return (of.database, *([of.accounts] if of.accounts is not None else []))
