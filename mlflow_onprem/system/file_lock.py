"""A lock that a file stands for: the kernel lets go of it when the process that holds it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mlflow_onprem.core import wait

INTERVAL = 0.5  # seconds between two tries


class Taken(Exception):
    """Another process holds it; the text is what that one said of itself."""


@contextlib.contextmanager
def held(path: Path, what: str, *, patience: float = 0) -> Iterator[None]:
    """Hold it while `what` (named to whoever finds it taken) is done. Raises Taken where it is not free within `patience` seconds."""
    with path.open("a+") as file:
        if not wait.until(lambda: _take(file.fileno()), patience, every=INTERVAL):
            file.seek(0)
            raise Taken(file.read().strip() or "unknown")
        file.truncate(0)
        file.write(f"pid {os.getpid()}: {what}")
        file.flush()
        yield


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
