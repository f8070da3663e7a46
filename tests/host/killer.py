"""Runs `install` inside a host and kills it, as SIGKILL does, at a chosen place. Started with the command's own Python:

`killer.py each LIST`      right after a resource was applied, before it is looked at again, if its name is not yet in the file LIST;
                           it is written there first. One resource at a time is applied, so none gets by.
`killer.py after NAME`     right after the resource of that name was applied.
`killer.py seconds N`      N seconds after the start, whatever is in hand.
A run that is not killed ends as `mlflow-onprem install --json` does.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from mlflow_onprem import engine
from mlflow_onprem.cli import main
from mlflow_onprem.host import Host
from mlflow_onprem.resource import Change, Resource, Unknown


def die() -> NoReturn:
    """As the kernel's out-of-memory killer or a power cut would have it: nothing runs any more."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit


def watch_applies(kill: "Kill") -> None:
    """Put `kill` between the moment a resource was applied and the look that follows."""
    original, one_at_a_time = engine._settle, threading.Lock()

    def settle(host: Host, resource: Resource) -> Change | None:
        have, change = engine._look(host, resource)
        if change is None or isinstance(have, Unknown):
            return original(host, resource)
        with one_at_a_time:
            resource.apply(host, have)
            kill(resource.name)
        return original(host, resource) or change

    engine._settle = settle


class Kill:
    """Kills after every resource once; what is applied a second time is noted with a star."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, name: str) -> None:
        known = self._path.read_text().splitlines() if self._path.exists() else []
        with self._path.open("a") as file:
            file.write(f"{name} *\n" if name in known else f"{name}\n")
            file.flush()
            os.fsync(file.fileno())
        if name not in known:
            die()


class KillAfter(Kill):
    """Kills after one resource."""

    def __call__(self, name: str) -> None:
        if name == str(self._path):
            die()


if __name__ == "__main__":
    how, what = sys.argv[1:]
    if how == "seconds":
        threading.Timer(float(what), die).start()
    else:
        watch_applies(Kill(Path(what)) if how == "each" else KillAfter(Path(what)))
    sys.argv = ["mlflow-onprem", "install", "--json"]
    main()
