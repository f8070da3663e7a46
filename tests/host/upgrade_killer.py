"""Runs `upgrade` inside a host and kills it, as SIGKILL does. Started with the command's own Python: `upgrade_killer.py LIST [VERB [OPTION...]]`.

It dies at every place that is not yet in the file LIST, and writes it there first: before and after each step forward, after each resource that
was applied, and after each act of the way back. A run that is not killed ends as the command does.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow_onprem.backup.database import Server
from mlflow_onprem.cli import main
from mlflow_onprem.core import engine
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Change, Resource
from mlflow_onprem.upgrade import command, rollback, state
from mlflow_onprem.upgrade.steps import Upgrading

LIST = Path(sys.argv[1])


def pass_by(place: str) -> None:
    """Die where nobody died before."""
    known = LIST.read_text().splitlines() if LIST.exists() else []
    if place in known:
        return
    with LIST.open("a") as file:
        file.write(f"{place}\n")
        file.flush()
        os.fsync(file.fileno())
    os.kill(os.getpid(), signal.SIGKILL)


def watch_steps() -> None:
    """Before and after every step."""
    original = vars(command)["step"]

    def step(making: Upgrading, name: str, do: Callable[[Upgrading], None]) -> None:
        pass_by(f"before {name}")
        original(making, name, do)
        pass_by(f"after {name}")

    vars(command)["step"] = step


def watch_resources() -> None:
    """After every resource that was changed; the stages run side by side, so one that is in hand elsewhere dies half done."""
    original = engine._settle

    def settle(host: Host, resource: Resource) -> Change | None:
        change = original(host, resource)
        if change is not None:
            pass_by(f"applied {resource.name} {resource.want is None}")
        return change

    engine._settle = settle


def watch_way_back() -> None:
    """After the databases were copied, exchanged and dropped, and before the journal goes."""
    for owner, name in ((Server, "copy"), (Server, "exchange"), (Server, "forget"), (state, "forget"), (rollback, "end_private")):
        original = getattr(owner, name)

        def wrapped(*arguments: Any, name: str = name, original: Any = original, **options: Any) -> Any:
            result = original(*arguments, **options)
            pass_by(f"did {name}")
            return result

        setattr(owner, name, wrapped)


if __name__ == "__main__":
    watch_steps()
    watch_resources()
    watch_way_back()
    verb = sys.argv[2:] or ["upgrade", "--no-backup"]
    sys.argv = ["mlflow-onprem", *verb]
    main()
