"""The one lock of everything that copies, deletes or replaces stored data: backup, restore, gc."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from mlflow_onprem.core.errors import Refused

LOCK = Path("/run/mlflow-onprem-backup.lock")
#: The journal of an upgrade under way (commands/upgrade_journal.py).
UPGRADE = Path("/var/lib/mlflow-onprem/upgrade.json")
INTERVAL = 0.5  # seconds between two tries


@contextlib.contextmanager
def hold(what: str, *, wait: float = 0, recovering: bool = False) -> Iterator[None]:
    """Hold it while `what` (named to whoever finds it taken) is done; the kernel lets go when the process dies.

    Waits up to `wait` seconds. Raises Refused where it stays taken, for anyone but root, and, but for whoever is `recovering` from it, after an
    upgrade that was cut off: it may yet put the databases back as they were.
    """
    require_root()
    deadline = time.monotonic() + wait
    with LOCK.open("a+") as file:
        while not _taken(file.fileno()):
            if time.monotonic() >= deadline:
                file.seek(0)
                raise Refused(f"another command works on backups or stored data ({file.read().strip() or 'unknown'})", "wait until it is done")
            time.sleep(INTERVAL)
        if not recovering and UPGRADE.exists():
            raise Refused("an upgrade was cut off and waits for an end", "finish or undo it first: sudo mlflow-onprem upgrade (or install)")
        file.truncate(0)
        file.write(f"pid {os.getpid()}: {what}")
        file.flush()
        yield


def require_root() -> None:
    """Raises Refused for anyone but root."""
    if os.geteuid() != 0:
        raise Refused("this works on stored data and secrets, and needs root", "run it with sudo")


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
