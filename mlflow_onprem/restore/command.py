"""`restore`: a backup onto this host, or onto a bare one.

What is here is backed up first, and comes back where the restored stack is not healthy. The order is objects, databases, services. Every step
can be done again, and the journal says which backup it was about, so a restore that was killed is finished by the same command.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

from mlflow_onprem.backup import context
from mlflow_onprem.backup import manifest as manifests
from mlflow_onprem.backup.encryption import Keys
from mlflow_onprem.backup.repository import Repository
from mlflow_onprem.core import procedure
from mlflow_onprem.core.errors import Refused, RolledBack
from mlflow_onprem.core.procedure import Procedure, Record, Step, Watch
from mlflow_onprem.restore import state, steps
from mlflow_onprem.restore.state import Journal
from mlflow_onprem.restore.steps import Restoring
from mlflow_onprem.settings.config import Config
from mlflow_onprem.system.local_host import LocalHost


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
    config: Config,
    repository: Repository,
    keys: Keys,
    backup: str,
    *,
    reload: Callable[[], Config] | None = None,
    into_empty: bool = False,
    with_rescue: bool = True,
    watch: Watch = lambda _: None,
) -> Restored:
    """Put a backup back. Call it with both locks held. `reload` reads the configuration that came with the backup onto a bare host.

    Raises RolledBack, HalfDone, and what was found before the first change: Refused, ConfigError, OnPremError.
    """
    started = time.monotonic()
    found = state.read_journal(host)
    if found is None:
        state.forget(host)
    record = Record(host, state.JOURNAL, found or Journal(id=backup, address=repository.address, bare=not context.installed(host)))
    journal = record.journal
    list_ = steps.onto_bare() if journal.bare else steps.onto_stack()
    undo = _is_undo(journal, list_, backup)
    place = "" if repository.address == config.backup.to else f" --from {repository.address}"
    verb = Procedure("restore", list_, f"sudo mlflow-onprem restore {journal.id}{place}", watch)
    run = Restoring(host, reload if journal.bare and reload is not None else lambda: config, repository, keys, record, watch, with_rescue)
    try:
        if undo:
            procedure.roll_back(verb, run, record)
            state.forget(host)
            return Restored(journal.id, repository.address, journal.rescue, True, 0, 0, 0, 0, time.monotonic() - started, ())
        _check(run, backup, verb, empty=into_empty and not journal.bare and found is None)
        procedure.run(verb, run, record)
    except RolledBack as back:
        state.forget(host)
        if record.journal.rescue is None and not with_rescue:
            back.message += " (but for objects that were overwritten: --skip-backup was given)"
            back.args = (back.message,)
        raise
    finally:
        run.close()
    state.forget(host)
    rows = sum(count for tables in run.contents["tables"].values() for count, _ in tables.values())
    return Restored(
        journal.id, repository.address, record.journal.rescue, False, run.manifest.objects.count, run.copied, run.copied_bytes, rows,
        time.monotonic() - started, tuple(run.notes),
    )  # fmt: skip


def _is_undo(journal: Journal, list_: tuple[Step[Restoring], ...], backup: str) -> bool:
    """Whether the one that was interrupted is to be undone. Raises Refused where another backup is named than those it is about."""
    finish = f"sudo mlflow-onprem restore {journal.id}"
    if backup not in (journal.id, journal.rescue):
        ways = f"finish it: {finish}" + (f"; or undo it: sudo mlflow-onprem restore {journal.rescue}" if journal.rescue else "")
        raise Refused(f"a restore of backup {journal.id} was interrupted", ways)
    if backup == journal.id:
        return journal.undo
    if procedure.committed(list_, journal):
        raise Refused(f"the restore of backup {journal.id} only waits for its last step", f"finish it first: {finish}; then run this again")
    return True


def _check(run: Restoring, backup: str, verb: Procedure[Restoring], *, empty: bool) -> None:
    """Look before the first change."""
    run.found = manifests.read(run.repository, backup)
    stopped = "this restore changed nothing yet" if not run.record.journal.begun else "what an earlier run began waits to go on"
    try:
        procedure.run(dataclasses.replace(verb, steps=steps.checks(empty=empty), stopped=stopped), run)
    except BaseException:
        # Decrypted, they hold secrets.
        (state.forget if state.read_journal(run.host) is None else state.drop_files)(run.host)
        raise
