"""`upgrade`: the lists of resources that install converges, with other wants, and a way back until clients are let in again.

The old stack serves until everything new is beside it. Then writers stop, both databases are copied, the lists are converged, the new server is
tried on a port of its own, and opened. Whatever fails before that: what was changed is rolled back, databases included, and not a run is lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from mlflow_onprem.core.errors import Interrupted, OnPremError, Refused
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.upgrade import state as journals
from mlflow_onprem.upgrade.rollback import roll_back, rolled_back
from mlflow_onprem.upgrade.state import OPENING
from mlflow_onprem.upgrade.steps import BEFORE, CHANGES, Upgrading, Watch, finish, resume_traffic, step


@dataclass(frozen=True)
class Upgraded:
    """What was done. `downtime` is in seconds, without MLflow; `migrations` None where tables were left alone or their number is not known."""

    version: str
    wanted: str
    backup: str | None
    changed: tuple[str, ...]
    migrations: int | None
    downtime: float
    seconds: float
    steps: tuple[tuple[str, float], ...]


def upgrade(host: LocalHost, assembly: Assembly, watch: Watch, make_backup: Callable[[], str] | None, stop: threading.Event) -> Upgraded:
    """Bring the host to what the configuration wants. Call it with both locks held, after `recover` and `upgrade_check.check`.

    `make_backup` returns the ID of the backup it made. Raises RolledBack, or whatever failed before the old
    stack was touched.
    """
    making = Upgrading(host, assembly, watch, make_backup, installed_version(host), time.monotonic())
    for name, do in BEFORE:
        step(making, name, do)
    try:
        for name, do in CHANGES:
            if stop.is_set():
                raise Interrupted("somebody asked to stop")
            step(making, name, do)
    except OnPremError as failed:
        if making.journal is None:
            raise
        raise rolled_back(making, failed) from failed
    step(making, "tidy up", finish)
    took = time.monotonic() - making.started
    down = sum(seconds for name, seconds in making.steps if name in dict(CHANGES))
    return Upgraded(
        version=making.version,
        wanted=assembly.config.mlflow.version,
        backup=making.backup,
        changed=making.changed,
        migrations=making.migrations,
        downtime=round(down, 1),
        seconds=round(took, 1),
        steps=tuple(making.steps),
    )


def recover(host: LocalHost, assembly: Assembly, watch: Watch = lambda _: None) -> str | None:
    """Finish or undo an upgrade that was interrupted; says in words which, None where none was. Raises OnPremError where it cannot."""
    journal = journals.read(host)
    if journal is None:
        return None
    making = Upgrading(host, assembly, watch, None, journal.version, time.monotonic(), journal, journal.backup)
    if journal.step == OPENING and journal.wanted == assembly.config.mlflow.version:
        try:
            step(making, "open", resume_traffic)
        except OnPremError as failed:
            raise rolled_back(making, failed) from failed
        step(making, "tidy up", finish)
        return f"an upgrade to MLflow {journal.wanted} that was interrupted is finished now"
    roll_back(making)
    return f"an upgrade to MLflow {journal.wanted} that was interrupted is undone: MLflow {journal.version} serves as before"


def installed_version(host: LocalHost) -> str:
    """MLflow's version of the environment in use. Raises Refused where there is none."""
    name = host.readlink("/opt/mlflow-onprem/environments/current")
    if name is None:
        raise Refused("there is no stack on this host to upgrade", "sudo mlflow-onprem install")
    return name.rpartition("-")[0]
