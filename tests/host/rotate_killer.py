"""Runs a command inside a host and kills it, as SIGKILL does, once: `rotate_killer.py LIST COMMAND...`, with the command's own Python.

It dies right after a resource was applied, or right after systemd was told to reload or restart something, before anybody waits for it: at the
first such place of the rotation, by its stage, that does not stand in the file LIST; it is written there first. A run that finds none ends.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from mlflow_onprem.cli import main
from mlflow_onprem.core import engine
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Change, Resource, Unknown
from mlflow_onprem.settings import credentials
from mlflow_onprem.system.systemd import Systemd


class Kill:
    """Once a place."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, what: str) -> None:
        file = Path(credentials.PATH)
        rotation = json.loads(file.read_text()).get("rotation") if file.exists() else None
        place = f"{rotation['stage'] if rotation else 'none'} {what}"
        known = self._path.read_text().splitlines() if self._path.exists() else []
        if place not in known:
            with self._path.open("a") as written:
                written.write(f"{place}\n")
                written.flush()
                os.fsync(written.fileno())
            os.kill(os.getpid(), signal.SIGKILL)


def arm(kill: Kill) -> None:
    """Put it into the engine and behind systemd's orders."""
    original, one_at_a_time, act = engine._settle, threading.Lock(), Systemd.act

    def settle(host: Host, resource: Resource) -> Change | None:
        have, change = engine._look(host, resource)
        if change is None or isinstance(have, Unknown):
            return original(host, resource)
        with one_at_a_time:
            resource.apply(host, have)
            # A key is named after itself; of every rotation another one.
            kill("access-key" if resource.name.startswith("access-key:") else resource.name)
        return original(host, resource) or change

    def acting(self: Systemd, *argv: str, timeout: float = 180) -> None:
        act(self, *argv, timeout=timeout)
        kill(f"systemctl {argv[0]} {argv[-1]}")

    engine._settle = settle
    Systemd.act = acting  # type: ignore[method-assign]


if __name__ == "__main__":
    arm(Kill(Path(sys.argv[1])))
    sys.argv = ["mlflow-onprem", *sys.argv[2:]]
    main()
