"""Runs `install` inside a host and kills it, as SIGKILL does, at a chosen place. Started with the command's own Python:

`killer.py each LIST`      right after a resource was applied, before it is looked at again, if its name is not yet in the file LIST;
                           it is written there first. One resource at a time is applied, so none gets by.
`killer.py after NAME`     right after the resource of that name was applied.
`killer.py during LIST`    while a resource is being applied: 0.3 s, and in a later run 4 s, after that began, unless it stands in LIST.
A run that is not killed ends as `mlflow-onprem install --json` does.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from mlflow_onprem.cli import main
from mlflow_onprem.core import engine
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Change, Resource, Unknown

DELAYS = (0.3, 4.0)  # seconds


def die() -> NoReturn:
    """As the kernel's out-of-memory killer or a power cut would have it: nothing runs any more."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit


def kill_between(kill: "Kill") -> None:
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


def kill_during(path: Path) -> None:
    """Kill in the middle of whatever takes longer than the delays."""
    original, last = engine._settle, threading.Lock()

    def settle(host: Host, resource: Resource) -> Change | None:
        known = path.read_text().splitlines() if path.exists() else []
        timers = [threading.Timer(delay, dies, [f"{resource.name} {delay}"]) for delay in DELAYS if f"{resource.name} {delay}" not in known]
        if engine._look(host, resource)[1] is not None:
            for each in timers:
                each.start()
        try:
            return original(host, resource)
        finally:
            for each in timers:
                each.cancel()

    def dies(what: str) -> None:
        with last:
            note(path, what)
            die()

    engine._settle = settle


def note(path: Path, line: str) -> None:
    """Write a line that outlives this process."""
    with path.open("a") as file:
        file.write(f"{line}\n")
        file.flush()
        os.fsync(file.fileno())


class Kill:
    """Kills after every resource once; what is applied a second time is noted with a star."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, name: str) -> None:
        known = self._path.read_text().splitlines() if self._path.exists() else []
        note(self._path, f"{name} *" if name in known else name)
        if name not in known:
            die()


class KillAfter(Kill):
    """Kills after one resource."""

    def __call__(self, name: str) -> None:
        if name == str(self._path):
            die()


if __name__ == "__main__":
    how, what = sys.argv[1:]
    if how == "during":
        kill_during(Path(what))
    else:
        kill_between(Kill(Path(what)) if how == "each" else KillAfter(Path(what)))
    sys.argv = ["mlflow-onprem", "install", "--json"]
    main()
