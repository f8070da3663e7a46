"""The steps of an upgrade. Each may be done again."""

from __future__ import annotations

import dataclasses
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from mlflow_onprem.backup import database
from mlflow_onprem.backup.database import Server
from mlflow_onprem.core import engine
from mlflow_onprem.core.engine import Event, Stack
from mlflow_onprem.core.errors import CommandFailed, OnPremError, Unhealthy
from mlflow_onprem.core.resource import Phase
from mlflow_onprem.doctor.command import client_day
from mlflow_onprem.resources.schema import Schema, SchemaState
from mlflow_onprem.settings import topology
from mlflow_onprem.stack import health
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system import stopped
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.upgrade import state as journals
from mlflow_onprem.upgrade.state import CHANGING, MLFLOW, OPENING, STOPPING, Journal

PRIVATE = "/run/systemd/system/mlflow.service.d"
PRIVATE_SETTINGS = "/run/mlflow-onprem-upgrade.env"
KEPT = 2  # environments: the one in use, and the one before it

Watch = Callable[[Event], None]


@dataclass
class Upgrading:
    """An upgrade on its way."""

    host: LocalHost
    assembly: Assembly
    watch: Watch
    make_backup: Callable[[], str] | None
    version: str
    started: float
    journal: Journal | None = None
    backup: str | None = None
    changed: tuple[str, ...] = ()
    migrations: int | None = None
    steps: list[tuple[str, float]] = dataclasses.field(default_factory=list)

    @property
    def stack(self) -> Stack:
        return self.assembly.migrating

    @property
    def schema(self) -> Schema:
        return next(each for each in self.stack if isinstance(each, Schema))

    @property
    def ports(self) -> tuple[int, ...]:
        """Where MLflow answers."""
        return (self.assembly.config.mlflow.port,)

    def server(self) -> Server:
        """PostgreSQL, as its administrator."""
        return database.server(self.host, self.assembly.sql, topology.postgres(self.assembly.config))

    def databases(self) -> tuple[str, ...]:
        """Those that a migration may change."""
        return tuple(each for each in (self.schema.tracking_database, self.schema.auth_database) if each is not None)

    def record(self, **changes: object) -> None:
        """Write down how far it is before going on."""
        assert self.journal is not None
        self.journal = dataclasses.replace(self.journal, **changes)  # type: ignore[arg-type]
        journals.write(self.host, self.journal)


def step(making: Upgrading, name: str, do: Callable[[Upgrading], None]) -> None:
    """One step, told and timed."""
    making.watch(Event("start", "upgrade", name))
    making.host.say(f"upgrade: {name}")
    began = time.monotonic()
    try:
        do(making)
    except CommandFailed as failed:
        raise OnPremError(f"{name}: {failed.message}", failed.hint, failed.output) from failed
    seconds = time.monotonic() - began
    making.steps.append((name, round(seconds, 1)))


# before: the old stack serves and nothing of it is touched ----------------------------------------------------------------


def back_up(making: Upgrading) -> None:
    """A whole backup, by the name of the version in use."""
    if making.make_backup is not None:
        making.backup = making.make_backup()


def build(making: Upgrading) -> None:
    """The new environment and the new program beside the old ones, then what only they know: whether they know these tables."""
    engine.converge(making.host, making.stack.only([Phase.BUILD]), making.watch)
    schema = making.schema
    have = schema.observe(making.host)
    if not isinstance(have, SchemaState) or have == schema.want:
        return
    answer = schema.ask_environment(making.host)
    if answer is None:
        raise OnPremError("the new environment does not start", "try it: sudo mlflow-onprem upgrade --rehearse")
    known = dataclasses.replace(schema, steps=tuple((answer["tracking"].get("steps") or "").split()) or schema.steps)
    known.check_may_change(have)
    making.migrations = known.migrations_ahead(have.tracking)


# changes: MLflow is away -------------------------------------------------------------------------------------------------


def stop_writers(making: Upgrading) -> None:
    """MLflow down, and not started by a reboot either: an environment must not meet tables that are not its own."""
    wanted = making.assembly.config.mlflow.version
    remembered = journals.remember(making.host, making.assembly)
    making.journal = Journal(STOPPING, making.version, wanted, making.backup, time.time(), making.databases(), remembered)
    making.record()
    making.server().forget(making.databases())
    making.assembly.to.systemd.act("disable", "--now", MLFLOW)
    stopped.prove(making.host, MLFLOW, making.ports)


def copy_databases(making: Upgrading) -> None:
    """Both as they are now, beside the ones in use: what comes back where anything fails."""
    server, owner = making.server(), topology.postgres(making.assembly.config).role
    for each in making.databases():
        server.copy(each, owner)
    making.record(step=CHANGING)


def change(making: Upgrading) -> None:
    """What install does, but for MLflow's own service. Here tables are migrated, once."""
    report = engine.converge(making.host, making.stack.only(Phase.SCHEMA.and_before()), making.watch)
    making.changed = tuple(each.resource for each in report.changed)


def try_out(making: Upgrading) -> None:
    """The new server on a port of its own of this host: a client's day must work before clients come back."""
    host, systemd = making.host, making.assembly.to.systemd
    port = _free_port()
    host.write(PRIVATE_SETTINGS, f"ONPREM_HOST=127.0.0.1\nONPREM_PORT={port}\n".encode(), mode=0o644, owner="root", group="root")
    host.mkdir(PRIVATE, mode=0o755, owner="root", group="root")
    drop_in = f"[Service]\nEnvironmentFile={PRIVATE_SETTINGS}\n"
    host.write(f"{PRIVATE}/90-upgrade.conf", drop_in.encode(), mode=0o644, owner="root", group="root")
    systemd.act("daemon-reload")
    systemd.act("start", MLFLOW)
    for finding in client_day(host, making.assembly, f"http://127.0.0.1:{port}"):
        if finding.level == "error":
            raise Unhealthy(f"the new server does not do what clients need: {finding.check}: {finding.what}", finding.fix)
    end_private(making)


def resume_traffic(making: Upgrading) -> None:
    """Clients come back. From here on their writes are in the new tables."""
    making.record(step=OPENING)
    end_private(making)
    engine.converge(making.host, making.stack, making.watch)
    health.wait(making.host, making.assembly.to.systemd, making.assembly.probes())


def finish(making: Upgrading) -> None:
    """The copies go; of old environments the last one stays."""
    making.server().forget(making.databases())
    journals.forget(making.host)
    _prune(making.host)


BEFORE: tuple[tuple[str, Callable[[Upgrading], None]], ...] = (("back up", back_up), ("build beside", build))
CHANGES: tuple[tuple[str, Callable[[Upgrading], None]], ...] = (
    ("stop MLflow", stop_writers),
    ("copy databases", copy_databases),
    ("change", change),
    ("try out", try_out),
    ("open", resume_traffic),
)


def end_private(making: Upgrading) -> None:
    host, systemd = making.host, making.assembly.to.systemd
    if host.stat(PRIVATE_SETTINGS) is not None or host.stat(f"{PRIVATE}/90-upgrade.conf") is not None:
        systemd.act("stop", MLFLOW)
        host.remove(f"{PRIVATE}/90-upgrade.conf")
        host.remove(PRIVATE_SETTINGS)
        systemd.act("daemon-reload")


def _prune(host: LocalHost) -> None:
    folder = "/opt/mlflow-onprem/environments"
    used = host.readlink(f"{folder}/current")
    names = [name for name in host.listdir(folder) if name not in ("current", used)]
    dated = sorted(names, key=lambda name: found.mtime if (found := host.stat(f"{folder}/{name}")) else 0.0)
    for name in dated[: -(KEPT - 1)]:
        host.remove(f"{folder}/{name}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
