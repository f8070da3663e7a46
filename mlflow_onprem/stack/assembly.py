"""From a configuration to the lists of resources of this host."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from mlflow_onprem.clients.object_store import MinioStore
from mlflow_onprem.clients.sql import SqlSession
from mlflow_onprem.core.engine import Stack
from mlflow_onprem.core.errors import NotVisible
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings import credentials as credentials_module
from mlflow_onprem.settings import facts as facts_module
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.credentials import Credentials
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.settings.topology import ExternalPostgres, LocalPostgres
from mlflow_onprem.stack import adoption, build, health, inputs, postgres, timers
from mlflow_onprem.stack.adopting import NOTHING
from mlflow_onprem.stack.adoption import Adoption
from mlflow_onprem.stack.connections import Connections
from mlflow_onprem.stack.inputs import External
from mlflow_onprem.system import clusters
from mlflow_onprem.system.clusters import Cluster
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.system.systemd import Systemd


@dataclass(frozen=True)
class Assembly:
    """A host's stack and what it was made from."""

    config: Config
    credentials: Credentials
    facts: Facts
    external: External
    to: Connections
    stack: Stack
    sql: SqlSession
    adoption: Adoption | None = None

    def probes(self) -> tuple[health.Probe, ...]:
        """How to ask the three services of this configuration."""
        return health.probes(self.config, _postgres_unit(self.config, self.facts))

    @property
    def units(self) -> tuple[str, ...]:
        """The stack's services on this host."""
        return tuple(topology.units(self.config, _postgres_unit(self.config, self.facts)))

    @cached_property
    def migrating(self) -> Stack:
        """The lists, allowed to bring existing tables to a newer revision: for who has seen to the way back."""
        uv = _uv()
        extra = NOTHING
        if self.adoption is not None:
            extra = adoption.adopting(self.adoption, self.config, self.facts, self.to, uv)
        return build.build(self.config, self.credentials, self.facts, self.external, self.to, uv, extra, may_migrate=True)

    def close(self) -> None:
        """End the database session."""
        self.sql.close()

    def __enter__(self) -> Assembly:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def assemble(host: LocalHost, config: Config, credentials: Credentials | None = None) -> Assembly:
    """Read what the lists depend on and build them; connects to nothing yet.

    Anyone but root gets lists with generated secrets: those resources show as hidden.
    Raises ConfigError, Refused, OnPremError (damaged credentials).
    """
    external = External()
    try:
        external = inputs.read(host, config)
        found = credentials or credentials_module.load_or_generate(host)
        if credentials is None and found.rotation is None:
            found = external.adopted(found)
    except NotVisible:
        found = credentials_module.generate(credentials_module.read_dates(host))
    cluster = _cluster(host, config)
    sql = SqlSession(host, *_administrator(config, found.postgres_password, cluster))
    if host.is_root and (cluster is None or host.stat(cluster.pid_file) is not None):
        sql.start()  # it loads while we look at the rest
    facts = facts_module.gather(host, config)
    unit = _postgres_unit(config, facts)
    units = [*topology.units(config, unit), *timers.TIMERS, *([postgres.BOOT_UNIT] if unit else [])]
    place = topology.store(config.minio)
    store = MinioStore(place.endpoint, *place.administrator(found), config.minio.region)
    to = Connections(Systemd(host, tuple(units)), sql, store, lambda password: login(host, config, password))
    adopting = adoption.look(host, config, facts, sql)
    if adopting is not None:
        facts = adoption.facts_of(adopting, facts)
        if host.read(credentials_module.PATH) is None:
            found = replace(found, mlflow_admin=adoption.administrator(adopting, found.mlflow_admin))
    uv = _uv()
    extra = adoption.adopting(adopting, config, facts, to, uv) if adopting is not None else NOTHING
    # Tables that somebody's own MLflow made are brought to the revision of ours; their dump is the way back.
    stack = build.build(config, found, facts, external, to, uv, extra, may_migrate=adopting is not None)
    return Assembly(config, found, facts, external, to, stack, sql, adopting)


def _cluster(host: LocalHost, config: Config) -> Cluster | None:
    if isinstance(topology.postgres(config), ExternalPostgres):
        return None
    return facts_module.choose(host, config).cluster


def _administrator(config: Config, password: Secret, cluster: Cluster | None) -> tuple[dict[str, str | Secret], str | None]:
    """How to connect as the one who may make roles and databases, and as which account of the operating system."""
    if cluster is not None:
        # Where the server really listens now, perhaps not yet on the port that it is to have, its pid file says.
        place = {"host": clusters.SOCKETS, "port": str(config.postgres.port), "pid_file": cluster.pid_file}
        return {**place, "user": "postgres", "client_encoding": "UTF8", "options": "-c lc_messages=C"}, "postgres"
    return topology.postgres(config).login(password), None


def login(host: LocalHost, config: Config, password: Secret) -> SqlSession:
    """A session of the role that MLflow has, with this password: over TCP, the only way on which one counts."""
    return SqlSession(host, topology.postgres(config).login(password), None)


def _postgres_unit(config: Config, facts: Facts) -> str | None:
    return postgres.unit(facts) if isinstance(topology.postgres(config), LocalPostgres) else None


def _uv() -> str:
    from uv import find_uv_bin

    return find_uv_bin()


def probes_and_systemd(host: LocalHost, config: Config) -> tuple[tuple[health.Probe, ...], Systemd]:
    """What `status` asks, found without credentials and without looking at anything else."""
    cluster = _cluster(host, config)
    unit = cluster.unit if cluster is not None else None
    return health.probes(config, unit), Systemd(host, tuple(topology.units(config, unit)))
