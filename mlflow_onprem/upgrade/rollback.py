"""The way back from an upgrade that failed or was interrupted."""

from __future__ import annotations

import time

from mlflow_onprem.backup import database
from mlflow_onprem.core import engine
from mlflow_onprem.core.engine import Event
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.stack import health
from mlflow_onprem.stack.assembly import Assembly, assemble
from mlflow_onprem.system import stopped
from mlflow_onprem.upgrade import state as journals
from mlflow_onprem.upgrade.state import CHANGING, MLFLOW, OPENING, RETURNED
from mlflow_onprem.upgrade.steps import Upgrading, end_private


class RolledBack(OnPremError):
    """The upgrade failed and the host is as it was before; `downtime` in seconds."""

    def __init__(self, cause: OnPremError, downtime: float, note: str = "") -> None:
        back = f"The old stack serves again, no run is lost{note}; MLflow was away {downtime:.0f} s"
        super().__init__(f"the upgrade failed and was rolled back: {cause.message}. {back}", cause.hint, cause.output)
        self.downtime = downtime


class CopiesGone(OnPremError):
    """What the way back needs is not there: trying it again does not help, only the backup does."""


def roll_back(making: Upgrading) -> str:
    """The host as the journal remembers it. May be done again after any interruption. Returns what is to be said of kept databases."""
    journal, note = making.journal, ""
    assert journal is not None
    making.watch(Event("start", "upgrade", "roll back"))
    end_private(making)
    making.assembly.to.systemd.act("stop", MLFLOW)
    stopped.prove(making.host, MLFLOW, making.ports)
    server = making.server()
    if journal.step in (CHANGING, OPENING):
        if all(server.exists(database.fresh_name(name)) for name in journal.databases):
            server.exchange(journal.databases)
        elif not all(server.exchanged(name) for name in journal.databases):
            raise CopiesGone("the copies of the databases are gone", f"put the backup back: {journals.aside(journal.backup or 'ID')}")
        making.record(step=RETURNED, keep=journal.step == OPENING)
    if making.journal is not None and making.journal.keep:
        note = f" (the databases that clients may have written to are kept as {', '.join(map(database.aside_name, journal.databases))})"
    else:
        server.forget(journal.databases)
    before = assemble_as_it_was(making)
    try:
        engine.converge(making.host, journals.way_back(journal, before), making.watch)
        health.wait(making.host, before.to.systemd, before.probes())
    finally:
        before.close()
    journals.forget(making.host)
    return note


def assemble_as_it_was(making: Upgrading) -> Assembly:
    """This host with MLflow where it was, whatever the configuration says now: its port is in the settings that come back."""
    config = making.assembly.config
    assert making.journal is not None
    entry = next((each for each in making.journal.before if each.get("path") == "/etc/mlflow-onprem/mlflow.env"), None)
    if entry is not None and entry["text"]:
        values = dict(line.split("=", 1) for line in entry["text"].splitlines() if "=" in line and not line.startswith("#"))
        where = {"bind": values.get("ONPREM_HOST", config.mlflow.bind), "port": int(values.get("ONPREM_PORT", config.mlflow.port))}
        config = config.model_copy(update={"mlflow": config.mlflow.model_copy(update=where)})
    return assemble(making.host, config)


def rolled_back(making: Upgrading, cause: OnPremError) -> OnPremError:
    making.host.say(f"that failed ({cause.message}): putting back what was here")
    try:
        note = roll_back(making)
    except OnPremError as worse:
        lead = worse.hint if isinstance(worse, CopiesGone) else "sudo mlflow-onprem upgrade: it goes on undoing"
        backup = f"; the backup made before is {making.backup}" if making.backup else ""
        return OnPremError(f"the upgrade failed ({cause.message}) and could not be rolled back yet: {worse.message}{backup}", lead, worse.output)
    assert making.journal is not None
    return RolledBack(cause, time.time() - making.journal.stopped, note)
