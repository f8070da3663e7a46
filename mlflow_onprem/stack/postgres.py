"""PostgreSQL: the distribution's packages and unit, one settings file and one marked block of ours, a role and its databases."""

from __future__ import annotations

import re

from mlflow_onprem.core.resource import Mode, Resource, Text
from mlflow_onprem.resources.cluster import AdministratorAccess, ClusterState, PostgresCluster
from mlflow_onprem.resources.database import Database, DatabaseState, Role, RoleState, SettingsInForce
from mlflow_onprem.resources.db_role import DatabaseRole, DbRoleState
from mlflow_onprem.resources.files import BlockState, Directory, DirectoryState, File, FileState, MarkedBlock
from mlflow_onprem.resources.overrides import Overrides
from mlflow_onprem.resources.rotation import OwnPassword, PasswordState
from mlflow_onprem.resources.services import Service, ServiceState
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.credentials import Credentials, Stage, accepted
from mlflow_onprem.settings.facts import CLUSTER_NOTE, Facts
from mlflow_onprem.settings.topology import ExternalPostgres, LocalPostgres
from mlflow_onprem.stack.adopting import Adopting
from mlflow_onprem.stack.connections import Connections
from mlflow_onprem.stack.inputs import External
from mlflow_onprem.system import clusters
from mlflow_onprem.system.clusters import Cluster

MIB = 1 << 20
LOOPBACK = ("127.0.0.1/32", "::1/128")
BOOT_UNIT = "postgresql.service"


def cluster_of(facts: Facts) -> Cluster:
    """The cluster of this host."""
    return facts.cluster or clusters.planned(facts.postgres_version)


def unit(facts: Facts) -> str:
    """Debian's own unit of the cluster."""
    return cluster_of(facts).unit


def packages(config: Config, facts: Facts) -> tuple[str, ...]:
    """What apt has to bring."""
    return (f"postgresql-{facts.postgres_version}",) if isinstance(topology.postgres(config), LocalPostgres) else ()


def before_packages(config: Config, facts: Facts) -> tuple[Resource, ...]:
    """What has to stand before apt makes and starts a cluster: whose it is, and how systemd keeps it running."""
    if isinstance(topology.postgres(config), ExternalPostgres):
        return ()
    folder = f"/etc/systemd/system/{unit(facts)}.d"
    words = ("shared" if facts.postgres_shared else "ours", cluster_of(facts).label, *(["made"] if facts.postgres_made else []))
    note = Text(" ".join(words) + "\n")
    return (
        File(CLUSTER_NOTE, FileState(note, Mode(0o644), "root", "root"), holds_data=True),
        Directory(folder, DirectoryState(Mode(0o755), "root", "root"), shared=True),
        File(f"{folder}/mlflow-onprem.conf", FileState(Text(DROP_IN), Mode(0o644), "root", "root")),
    )


def resources(
    config: Config, credentials: Credentials, facts: Facts, external: External, to: Connections, adopting: Adopting
) -> tuple[Resource, ...]:
    """The whole list, in order; for an external server only what its role may make there: the databases."""
    sql, user = topology.postgres(config), config.postgres.user
    if isinstance(sql, ExternalPostgres):
        # An external tracking database must already exist; the accounts' own one is made beside it where the role may.
        return _new_password(credentials, sql, to) + tuple(
            Database(to.sql, name, DatabaseState(owner=sql.role), holds_data=True, maintenance=sql.database, ours=False) for name in sql.databases
        )
    cluster = cluster_of(facts)
    conf = File(cluster.settings, FileState(Text(_settings(config, facts)), Mode(0o644), "postgres", "postgres"))
    ours = tuple(line.partition(" = ")[0] for line in _settings(config, facts).splitlines() if " = " in line)
    # Whatever else postgresql.conf and conf.d say, the last line counts.
    last = MarkedBlock(cluster.conf, BlockState(Text(f"include_if_exists = '{conf.path}'\n")), last=True)
    included = (last,) if not cluster.reads_conf_d or cluster.later & set(ours) else ()
    return (
        PostgresCluster(cluster, sql.port, ClusterState(None if facts.postgres_shared else "auto"), to.systemd, holds_data=True),
        # As Debian makes it; one that is there stays as its owner has it.
        *([Directory(f"{cluster.folder}/conf.d", DirectoryState(Mode(0o755), "postgres", "postgres"))] if cluster.lacks_conf_d else []),
        conf,
        *included,
        MarkedBlock(cluster.ident, BlockState(Text(f"mlflow-onprem  {_quoted(config.mlflow.user)}  {user}\n"))),
        MarkedBlock(cluster.hba, BlockState(Text(_access(config, facts, external)))),
        *adopting.access,
        # A restart would cut off whoever else uses this cluster: SettingsInForce does it where a setting of ours needs one.
        Service(unit(facts), ServiceState(enabled=True, active=True, inputs=""), to.systemd, boot_unit=BOOT_UNIT, restarts=False),
        *(() if facts.postgres_shared else (AdministratorAccess(to.sql, to.systemd, unit(facts)),)),
        Overrides(to.sql, unit(facts), ours),
        SettingsInForce(
            to.sql,
            to.systemd,
            unit(facts),
            paths=(conf.path, *(each.path for each in included), cluster.ident, cluster.hba),
            settings=ours,
        ),
        Role(to.sql, user, RoleState(login=True, superuser=False, create_role=False, password=credentials.postgres_password), holds_data=True),
        *(Database(to.sql, name, DatabaseState(owner=user), holds_data=True) for name in sql.databases),
    )


def roles(config: Config, external: External, to: Connections) -> tuple[Resource, ...]:
    """Roles of people and programs, once MLflow's tables are there."""
    settings = config.postgres
    return tuple(
        DatabaseRole(to.sql, each.name, settings.database, settings.user, DbRoleState(each.read_only, each.verifier), holds_data=True)
        for each in external.roles
    )


def _new_password(credentials: Credentials, sql: ExternalPostgres, to: Connections) -> tuple[Resource, ...]:
    """What a rotation that has its new values in use wants of a server that is not ours: the password of the user's own file."""
    rotation = credentials.rotation
    if rotation is None or rotation.stage is not Stage.CURRENT or "postgres" not in rotation.scope or to.login is None:
        return ()
    new, *old = accepted(credentials, "postgres_password")
    return (OwnPassword(sql.role, sql.database, to.login, PasswordState(new), tuple(old)),)


DROP_IN = """\
# Written by mlflow-onprem.
[Unit]
StartLimitIntervalSec=0

[Service]
Restart=always
RestartSec=2
LimitNOFILE=65536
"""


def _settings(config: Config, facts: Facts) -> str:
    networks = config.postgres.allowed_networks
    lines = ["# Written by mlflow-onprem from [postgres] of config.toml."]
    if facts.postgres_shared:
        # This cluster served others before us: its memory, its addresses and how it keeps others' passwords stay as its owner set them.
        return "\n".join([*lines, *(["listen_addresses = '*'"] if networks else [])]) + "\n"
    lines += ["password_encryption = 'scram-sha-256'", f"listen_addresses = '{'*' if networks else 'localhost'}'"]
    shared = max(128, min(facts.memory // MIB // 8, 4096))
    lines += [
        f"port = {config.postgres.port}",
        f"unix_socket_directories = '{clusters.SOCKETS}'",
        f"shared_buffers = '{shared}MB'",
        f"effective_cache_size = '{max(256, facts.memory // MIB // 3)}MB'",
        "work_mem = '16MB'",
        f"maintenance_work_mem = '{max(64, min(facts.memory // MIB // 32, 1024))}MB'",
        "max_connections = 200",
        "jit = off",
    ]
    return "\n".join(lines) + "\n"


def _quoted(account: str) -> str:
    """As pg_ident.conf reads it: plain names as they are, others (a directory's user@domain) in quotes."""
    return account if re.fullmatch(r"[a-z_][a-z0-9_]*", account) else f'"{account}"'


def _access(config: Config, facts: Facts, external: External) -> str:
    """pg_hba lines. The first match wins, so the role gets in by these ways alone, whatever stands below; our own cluster's administrator too."""
    user, names = config.postgres.user, ",".join(topology.postgres(config).databases)
    # From elsewhere by TLS alone, where the cluster speaks it; every client of PostgreSQL's own library does so unasked.
    beyond = "hostssl " if cluster_of(facts).ssl else "host   "
    ways = [*(("host   ", each) for each in LOOPBACK), *((beyond, each) for each in config.postgres.allowed_networks)]
    people = ",".join(each.name for each in external.roles)
    return "".join(
        [
            *([] if facts.postgres_shared else ["local  all  postgres  peer\n"]),
            f"local  {names}  {user}  peer map=mlflow-onprem\n",
            *(f"{kind}{names}  {user}  {network}  scram-sha-256\n" for kind, network in ways),
            f"local  all  {user}  reject\n",
            f"host   all  {user}  all  reject\n",
            *(f"{kind}{config.postgres.database}  {people}  {network}  scram-sha-256\n" for kind, network in ways if people),
            *([f"local  all  {people}  reject\n", f"host   all  {people}  all  reject\n"] if people else []),
        ]
    )
