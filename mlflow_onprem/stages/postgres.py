"""PostgreSQL: the distribution's packages and unit, one settings file and one marked block of ours, a role and its databases."""

from __future__ import annotations

from mlflow_onprem.config import Config
from mlflow_onprem.credentials import Credentials, Stage, accepted
from mlflow_onprem.facts import CLUSTER_NOTE, Facts
from mlflow_onprem.resource import Mode, Resource, Text
from mlflow_onprem.resources.database import Database, DatabaseState, Role, RoleState, SettingsInForce
from mlflow_onprem.resources.files import BlockState, Directory, DirectoryState, File, FileState, MarkedBlock
from mlflow_onprem.resources.overrides import Overrides
from mlflow_onprem.resources.rotation import OwnPassword, PasswordState
from mlflow_onprem.resources.services import Service, ServiceState
from mlflow_onprem.stages.connections import Connections
from mlflow_onprem.stages.inputs import External

MIB = 1 << 20
BOOT_UNIT = "postgresql.service"


def unit(facts: Facts) -> str:
    """Debian's own unit of the cluster."""
    return unit_of(facts.postgres_version)


def unit_of(version: int) -> str:
    """The unit of the cluster `main` of a major version."""
    return f"postgresql@{version}-main.service"


def packages(config: Config, facts: Facts) -> tuple[str, ...]:
    """What apt has to bring."""
    return (f"postgresql-{facts.postgres_version}",) if config.postgres.mode == "local" else ()


def databases(config: Config) -> tuple[str, ...]:
    """MLflow's database and, with accounts, theirs."""
    return (config.postgres.database, *([config.mlflow.auth.database] if config.mlflow.auth.enabled else []))


def before_packages(config: Config, facts: Facts) -> tuple[Resource, ...]:
    """What has to stand before apt makes and starts a cluster: whose it is, and how systemd keeps it running."""
    if config.postgres.mode == "external":
        return ()
    folder = f"/etc/systemd/system/{unit(facts)}.d"
    note = Text("shared\n" if facts.postgres_shared else "ours\n")
    return (
        File(CLUSTER_NOTE, FileState(note, Mode(0o644), "root", "root"), holds_data=True),
        Directory(folder, DirectoryState(Mode(0o755), "root", "root"), shared=True),
        File(f"{folder}/mlflow-onprem.conf", FileState(Text(DROP_IN), Mode(0o644), "root", "root")),
    )


def resources(config: Config, credentials: Credentials, facts: Facts, external: External, to: Connections) -> tuple[Resource, ...]:
    """The whole list, in order; for an external server only what its role may make there: the databases."""
    settings, user = config.postgres, config.postgres.user
    if settings.mode == "external":
        # The tracking database is its owner's gift; the accounts' own one is made beside it where the role may.
        gift = external.database
        return _new_password(credentials, external, to) + tuple(
            Database(to.sql, name, DatabaseState(owner=external.role), holds_data=True, maintenance=gift, ours=False)
            for name in (gift, *databases(config)[1:])
        )
    cluster = f"/etc/postgresql/{facts.postgres_version}/main"
    conf = File(f"{cluster}/conf.d/90-mlflow-onprem.conf", FileState(Text(_settings(config, facts)), Mode(0o644), "postgres", "postgres"))
    ours = tuple(line.partition(" = ")[0] for line in _settings(config, facts).splitlines() if " = " in line)
    return (
        conf,
        MarkedBlock(f"{cluster}/pg_ident.conf", BlockState(Text(f"mlflow-onprem  mlflow  {user}\n"))),
        MarkedBlock(f"{cluster}/pg_hba.conf", BlockState(Text(_access(config)))),
        # A restart would cut off whoever else uses this cluster: SettingsInForce does it where a setting of ours needs one.
        Service(unit(facts), ServiceState(enabled=True, active=True, inputs=""), to.systemd, boot_unit=BOOT_UNIT, restarts=False),
        Overrides(to.sql, unit(facts), ours),
        SettingsInForce(
            to.sql,
            to.systemd,
            unit(facts),
            paths=(conf.path, f"{cluster}/pg_ident.conf", f"{cluster}/pg_hba.conf"),
            settings=ours,
        ),
        Role(to.sql, user, RoleState(login=True, superuser=False, create_role=False, password=credentials.postgres_password), holds_data=True),
        *(Database(to.sql, name, DatabaseState(owner=user), holds_data=True) for name in databases(config)),
    )


def _new_password(credentials: Credentials, external: External, to: Connections) -> tuple[Resource, ...]:
    """What a rotation that has its new values in use wants of a server that is not ours: the password of the user's own file."""
    rotation = credentials.rotation
    if rotation is None or rotation.stage is not Stage.CURRENT or "postgres" not in rotation.scope or to.login is None:
        return ()
    new, *old = accepted(credentials, "postgres_password")
    return (OwnPassword(external.role, external.database, to.login, PasswordState(new), tuple(old)),)


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
    lines = ["# Written by mlflow-onprem from [postgres] of config.toml.", "password_encryption = 'scram-sha-256'"]
    if networks:
        lines.append("listen_addresses = '*'")
    elif not facts.postgres_shared:
        lines.append("listen_addresses = 'localhost'")
    if facts.postgres_shared:
        # This cluster served others before us: its memory and its listening addresses stay as its owner set them.
        return "\n".join(lines) + "\n"
    shared = max(128, min(facts.memory // MIB // 8, 4096))
    lines += [
        f"port = {config.postgres.port}",
        f"shared_buffers = '{shared}MB'",
        f"effective_cache_size = '{max(256, facts.memory // MIB // 3)}MB'",
        "work_mem = '16MB'",
        f"maintenance_work_mem = '{max(64, min(facts.memory // MIB // 32, 1024))}MB'",
        "max_connections = 200",
        "jit = off",
    ]
    return "\n".join(lines) + "\n"


def _access(config: Config) -> str:
    """pg_hba lines. The first match wins, so the role gets in by these ways alone, whatever stands below."""
    user, names = config.postgres.user, ",".join(databases(config))
    tcp = ["127.0.0.1/32", "::1/128", *config.postgres.allowed_networks]
    return "".join(
        [
            f"local  {names}  {user}  peer map=mlflow-onprem\n",
            *(f"host   {names}  {user}  {network}  scram-sha-256\n" for network in tcp),
            f"local  all  {user}  reject\n",
            f"host   all  {user}  all  reject\n",
        ]
    )
