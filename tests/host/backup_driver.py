"""Runs the command inside a host and interferes at its steps. Started with the command's own Python: `backup_driver.py HOW LIST COMMAND...`

`kill`   SIGKILL once at every point that is not in the file LIST yet; it is written there first.
`unhealthy`   the restored stack is found unhealthy the first time it is asked; then `kill` as above, so undoing is killed as well.
`once`   unhealthy the first time, nothing is killed.
Points are: right after each step, and within steps after a file was put, an object was moved, a statement changed a database.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow_onprem.backup import create
from mlflow_onprem.backup.bucket import Bucket
from mlflow_onprem.backup.repository import Folder
from mlflow_onprem.cli import main
from mlflow_onprem.clients.sql import SqlSession
from mlflow_onprem.core.errors import Unhealthy
from mlflow_onprem.core.procedure import Record
from mlflow_onprem.restore import steps
from mlflow_onprem.restore.state import Journal
from mlflow_onprem.stack import health

CREATE = ("tidy", "copy_before", "dump", "copy_after", "pack", "publish")
CHANGING = ("CREATE DATABASE", "ALTER DATABASE", "DROP DATABASE", "COMMIT")
STEPS = ("bring_files", "bring_services", "stop_writers", "rescue", "copy_objects", "restore_databases", "bring_secrets", "serve", "finish")
UNDO = ("secrets_back", "databases_back", "objects_back")


def point(path: Path, name: str) -> None:
    """Die here, unless it was done before."""
    known = path.read_text().splitlines() if path.exists() else []
    if name in known:
        return
    with path.open("a") as file:
        file.write(f"{name}\n")
        file.flush()
        os.fsync(file.fileno())
    os.kill(os.getpid(), signal.SIGKILL)


def after(path: Path, owner: Any, name: str, label: Callable[..., str | None]) -> None:
    """Put a point behind a function."""
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        answer = original(*arguments, **named)
        text = label(*arguments, **named)
        if text is not None:
            point(path, text)
        return answer

    setattr(owner, name, wrapped)


def arm(path: Path, unhealthy: bool) -> None:
    """Put all points in place."""
    for name in CREATE:
        after(path, create, name, lambda *_, name=name: f"backup: {name}")
    after(path, Folder, "store", lambda *_: "object into the pool")
    after(path, Folder, "put", lambda _self, name, _path: f"file {name.rpartition('/')[2]}")
    after(path, Bucket, "copy_from", lambda *_: "object into the bucket" + (" again" if unhealthy else ""))
    after(path, SqlSession, "query", statement)
    after(path, Record, "save", lambda record, **_: f"journal {record.journal}" if isinstance(record.journal, Journal) else None)
    for name in {*STEPS, *UNDO}:
        after(path, steps, name, lambda *_, name=name: f"restore: {name}")


def statement(_self: object, _database: str, text: str, identifiers: Any = None, literals: Any = None) -> str | None:
    """Statements that change what databases there are."""
    kind = next((each for each in CHANGING if text.startswith(each)), None)
    return None if kind is None else f"sql {kind} {' '.join(sorted((identifiers or {}).values()))}"


def fall_ill(path: Path) -> None:
    """Unhealthy once, as a stack is that does not come up."""
    original = health.wait

    def wait(*arguments: Any, **named: Any) -> Any:
        answer = original(*arguments, **named)
        if not path.exists():
            path.touch()
            raise Unhealthy("mlflow on port 5000 is not healthy after 120 s: made up")
        return answer

    health.wait = wait


if __name__ == "__main__":
    how, listed, *command = sys.argv[1:]
    if how in ("unhealthy", "once"):
        fall_ill(Path(f"{listed}.ill"))
    if how != "once":
        arm(Path(listed), how == "unhealthy")
    sys.argv = ["mlflow-onprem", *command]
    main()
