"""`upgrade --check`: what an upgrade would change, what it needs, and whether it can be made at all. Changes nothing."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from mlflow_onprem.backup import manifest, summary
from mlflow_onprem.core import engine
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.core.render import size
from mlflow_onprem.core.resource import Unknown
from mlflow_onprem.resources.environment import Environment
from mlflow_onprem.resources.schema import NEWEST, Schema, SchemaState
from mlflow_onprem.resources.services import Service
from mlflow_onprem.restore import state
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.topology import ExternalPostgres
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.upgrade import postgres_guide
from mlflow_onprem.upgrade import state as upgrade_journal
from mlflow_onprem.upgrade.command import installed_version
from mlflow_onprem.upgrade.postgres_guide import Guide

#: The oldest MLflow this was tried from, to the pinned one and through it.
OLDEST = (3, 14, 0)
ENVIRONMENT = 1_500 << 20  # bytes of one with its byte code
RESERVE = 512 << 20
RESTARTS = 25.0  # seconds: stopping, trying the new server out, opening it
COPY_RATE = 80 << 20  # bytes a second, of a database's files
#: What changes for users between two versions: (from this version on, what).
BREAKS = (
    ("3.16.1", "accounts: MLflow no longer accepts its old built-in password password1234; accounts that still use it must get another one"),
    ("3.17.0", "clients of 3.17 ask the server how to move artifacts; older clients go on as before"),
)


@dataclass(frozen=True)
class Check:
    """What would happen. `migrations` is None where only the new environment knows; sizes in bytes, `downtime` an estimate in seconds."""

    version: str
    wanted: str
    changes: tuple[str, ...]
    migrations: int | None
    revision: str
    breaks: tuple[str, ...]
    database_bytes: int
    needed: int
    free: int
    downtime: float
    backup: str
    refusals: tuple[tuple[str, str], ...]
    postgres: Guide | None

    @property
    def possible(self) -> bool:
        return not self.refusals


def check(host: LocalHost, assembly: Assembly) -> Check:
    """Look at the host. Raises Refused where no stack is installed."""
    version, wanted = installed_version(host), assembly.config.mlflow.version
    if not host.is_root:
        raise Refused("an upgrade is looked at and made by root", "run it with sudo")
    plan = engine.plan(host, assembly.stack)
    schema = next(each for each in assembly.migrating if isinstance(each, Schema))
    have = schema.observe(host)
    refusals = list(_refusals(host, assembly, version, wanted))
    migrations: int | None = 0
    if isinstance(have, SchemaState):
        try:
            schema.check_may_change(have)
        except Refused as refused:
            refusals.append((refused.message, refused.hint))
        unknown = schema.want is not None and schema.want.tracking == NEWEST and have.tracking != NEWEST
        migrations = None if unknown else 0 if have.tracking == NEWEST else schema.migrations_ahead(have.tracking)
    elif isinstance(have, Unknown):
        refusals.append((f"the tables cannot be looked at: {have.why}", "bring the stack up first: mlflow-onprem status"))
    database_bytes = sum(_size(assembly, each) for each in (schema.tracking_database, schema.auth_database) if each)
    new = any(isinstance(each, Environment) and host.stat(each.directory) is None for each in assembly.stack)
    needed = database_bytes + RESERVE + (ENVIRONMENT if new else 0)
    free = shutil.disk_usage(host.local("/opt")).free
    if free < needed:
        refusals.append((f"{size(free)} are free and an upgrade needs {size(needed)}", "free some space: `df -h`, old backups, old logs"))
    return Check(
        version=version,
        wanted=wanted,
        changes=tuple(each.resource for each in plan.changes),
        migrations=migrations,
        revision=have.tracking if isinstance(have, SchemaState) else "",
        breaks=tuple(text for since, text in BREAKS if numbers(version) < numbers(since) <= numbers(wanted)),
        database_bytes=database_bytes,
        needed=needed,
        free=free,
        downtime=round(RESTARTS + database_bytes / COPY_RATE + 3 * (migrations or 0)),
        backup=summary.line(summary.read(host), manifest.now()),
        refusals=tuple(refusals),
        postgres=postgres_guide.guide(host, assembly),
    )


def must_be_possible(found: Check) -> None:
    """Raises Refused with the first thing in the way."""
    for message, hint in found.refusals:
        raise Refused(message, hint)


def numbers(version: str) -> tuple[int, ...]:
    """3.17.2 as (3, 17, 2)."""
    return tuple(int(part) for part in version.split("."))


def _refusals(host: LocalHost, assembly: Assembly, version: str, wanted: str) -> list[tuple[str, str]]:
    found = []
    if numbers(wanted) < numbers(version):
        way = "the way back is a backup made with that version: set mlflow.version, then sudo mlflow-onprem restore ID (on a bare host)"
        found.append((f"MLflow {wanted} is older than {version}, which runs here: tables are not brought back", way))
    if numbers(version) < OLDEST or numbers(version)[0] != numbers(wanted)[0]:
        oldest = ".".join(map(str, OLDEST))
        found.append(
            (f"from MLflow {version} to {wanted} in one go was never tried", f"go by a version in between, {oldest} or later of the same major")
        )
    if host.read(upgrade_journal.PATH) is None and _others_at_work(host):
        found.append((_others_at_work(host), "finish that first"))
    sql = topology.postgres(assembly.config)
    if isinstance(sql, ExternalPostgres) and not _may_copy(assembly, sql.database):
        way = f'ask its administrator for: ALTER ROLE "{sql.role}" CREATEDB (for the time of the upgrade)'
        found.append(("the role at the external PostgreSQL may not create databases, so the way back cannot be prepared", way))
    services = [each.unit for each in assembly.stack if isinstance(each, Service) and each.unit in ("mlflow.service", "minio.service")]
    down = [unit for unit in services if assembly.to.systemd.status(unit).active != "active"]
    if down and host.read(upgrade_journal.PATH) is None:
        found.append(
            (f"{' and '.join(down)} is not running: an upgrade starts from a healthy stack", "mlflow-onprem status; sudo mlflow-onprem logs")
        )
    return found


def _others_at_work(host: LocalHost) -> str:
    try:
        state.check_rotation(host)
    except OnPremError as busy:
        return busy.message
    journal = state.read_journal(host)
    return "" if journal is None else f"a restore of backup {journal.id} was broken off"


def _may_copy(assembly: Assembly, database: str) -> bool:
    rows = assembly.sql.query(database, "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user")
    return bool(rows and rows[0][0])


def _size(assembly: Assembly, name: str) -> int:
    try:
        return int(assembly.sql.query(name, "SELECT pg_database_size(current_database())")[0][0])
    except OnPremError:
        return 0
