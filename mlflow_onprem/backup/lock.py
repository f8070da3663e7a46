"""The one lock of everything that copies, deletes or replaces stored data: backup, restore, gc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mlflow_onprem.core.errors import Refused
from mlflow_onprem.system import file_lock
from mlflow_onprem.system.file_lock import Taken

LOCK = Path("/run/mlflow-onprem-backup.lock")
#: The journal of an upgrade under way (commands/upgrade_journal.py).
UPGRADE = Path("/var/lib/mlflow-onprem/upgrade.json")


@contextlib.contextmanager
def hold(what: str, *, wait: float = 0, recovering: bool = False) -> Iterator[None]:
    """Hold it while `what` (named to whoever finds it taken) is done; the kernel lets go when the process dies.

    Waits up to `wait` seconds. Raises Refused where it stays taken, for anyone but root, and, but for whoever is `recovering` from it, after an
    upgrade that was interrupted: it may yet put the databases back as they were.
    """
    require_root()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock.held(LOCK, what, patience=wait))
        except Taken as holder:
            raise Refused(f"another command works on backups or stored data ({holder})", "wait until it is done") from None
        if not recovering and UPGRADE.exists():
            raise Refused("an upgrade was interrupted and waits for an end", "finish or undo it first: sudo mlflow-onprem upgrade (or install)")
        yield


def require_root() -> None:
    """Raises Refused for anyone but root."""
    if os.geteuid() != 0:
        raise Refused("this works on stored data and secrets, and needs root", "run it with sudo")
