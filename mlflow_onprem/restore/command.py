"""`restore`: a backup onto this host, or onto a bare one.

What is here is backed up first, and comes back where the restored stack is not healthy. The order is objects, databases, services. Every step
can be done again, and the journal says which backup it was about, so a restore that was killed is finished by the same command.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mlflow_onprem.backup import context
from mlflow_onprem.backup import manifest as manifests
from mlflow_onprem.backup.encryption import Keys
from mlflow_onprem.backup.repository import Repository
from mlflow_onprem.core.engine import Event
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.restore import state, steps
from mlflow_onprem.restore.state import Journal
from mlflow_onprem.restore.steps import Restoring, Watch
from mlflow_onprem.system.local_host import LocalHost

STEPS: tuple[tuple[str, Callable[[Restoring], None]], ...] = (
    ("begin", steps.begin),
    ("bring files", steps.bring_files),
    ("bring services", steps.bring_services),
    ("stop MLflow", steps.stop_writers),
    ("back up what is here", steps.rescue),
    ("copy objects", steps.copy_objects),
    ("restore databases", steps.restore_databases),
    ("bring secrets", steps.bring_secrets),
    ("start services", steps.serve),
    ("finish", steps.finish),
)


@dataclass(frozen=True)
class Restored:
    """What a restore did. `rescue` is the backup of what was here, `copied` objects were not in the bucket as the backup has them."""

    id: str
    address: str
    rescue: str | None
    undone: bool
    objects: int
    copied: int
    copied_bytes: int
    rows: int
    seconds: float
    notes: tuple[str, ...]


def restore(
    host: LocalHost,
    config_path: str | None,
    repository: Repository,
    keys: Keys,
    backup: str,
    *,
    into_empty: bool = False,
    with_rescue: bool = True,
    watch: Watch = lambda _: None,
) -> Restored:
    """Put a backup back. Call it with both locks held. Raises OnPremError; then this host is as it was, or the journal says how to go on."""
    started = time.monotonic()
    journal = state.read_journal(host)
    if journal is not None and backup not in (journal.id, journal.rescue):
        ways = f"finish it: sudo mlflow-onprem restore {journal.id}" + (
            f"; or undo it: sudo mlflow-onprem restore {journal.rescue}" if journal.rescue else ""
        )
        raise Refused(f"a restore of backup {journal.id} was broken off", ways)
    undo = journal is not None and (journal.undo or backup == journal.rescue)
    if journal is None:
        journal = Journal(id=backup, address=repository.address, bare=not context.installed(host))
    if undo:
        assert journal is not None
        undoing = Restoring(host, config_path, repository, keys, None, journal, watch, with_rescue)
        put_back(undoing)
        return Restored(journal.id, repository.address, journal.rescue, True, 0, 0, 0, 0, time.monotonic() - started, ())
    manifest = manifests.read(repository, backup)
    making = Restoring(host, config_path, repository, keys, manifest, journal, watch, with_rescue)
    try:
        _step(making, "check backup", steps.check)
        if into_empty and not journal.bare:
            _step(making, "check that this host is empty", steps.check_empty)
            making.with_rescue = False
    except BaseException:
        state.drop_files(host)  # opened, they hold secrets
        raise
    try:
        for name, do in STEPS:
            _step(making, name, do)
    except (OnPremError, KeyboardInterrupt) as failed:
        if journal.bare:
            raise
        _give_up(making, failed)
        raise
    rows = sum(count for tables in making.contents["tables"].values() for count, _ in tables.values())
    return Restored(
        manifest.id, repository.address, making.journal.rescue, False, manifest.objects.count, making.copied, making.copied_bytes, rows,
        time.monotonic() - started, tuple(making.notes),
    )  # fmt: skip


def _give_up(making: Restoring, failed: OnPremError | KeyboardInterrupt) -> None:
    """Put back what was here and say so in the failure. Raises OnPremError with both reasons where that fails, too."""
    making.host.say("that failed: putting back what was here")
    reason = failed.message if isinstance(failed, OnPremError) else "stopped by Ctrl-C"
    try:
        put_back(making)
    except OnPremError as also:
        also.message = f"{reason}; and putting back what was here failed: {also.message}"
        also.hint = f"{also.hint}; then finish with `sudo mlflow-onprem restore {making.journal.id}`: it goes on putting back"
        raise also from failed
    if isinstance(failed, OnPremError):
        kept = " (but for objects that were overwritten: --skip-backup was given)" if making.journal.rescue is None and not making.with_rescue else ""
        failed.message = f"{reason}; this host is as it was before{kept}"


def put_back(making: Restoring) -> None:
    """This host as it was before the restore. Killed, it is finished by the next run."""
    making.journal = making.journal.model_copy(update={"undo": True})
    state.write_journal(making.host, making.journal)
    for name, do in (
        ("put secrets back", steps.secrets_back),
        ("put databases back", steps.databases_back),
        ("put objects back", steps.objects_back),
    ):
        _step(making, name, do)
    _step(making, "start services", steps.serve)
    _step(making, "finish", steps.finish)


def _step(making: Restoring, name: str, do: Callable[[Restoring], None]) -> None:
    making.watch(Event("start", "restore", name))
    started = time.monotonic()
    do(making)
    making.watch(Event("settled", "restore", name, seconds=time.monotonic() - started))
