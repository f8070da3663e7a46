"""What a hand-built MLflow keeps in SQLite (runs, accounts) goes into this stack's PostgreSQL; the file itself is only read."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base
from mlflow_onprem.resources.adoption import NOTE

FOLDER = "/var/lib/mlflow/adoption"


@dataclass(frozen=True)
class TransplantState:
    """Where what is in our database came from."""

    brought_from: str


@dataclass(frozen=True)
class Transplant(Base):
    """All rows of an SQLite database of MLflow's, `what` being tracking or accounts, in one of ours. Our tables are there already."""

    what: str
    source: str
    python: str
    environment: tuple[tuple[str, str], ...]
    want: TransplantState | None
    user: str = "mlflow"
    group: str = "mlflow"

    @property
    def name(self) -> str:
        return f"transplant:{self.what}"

    def observe(self, host: Host) -> TransplantState | None:
        source = _note(host).get("brought", {}).get(self.what)
        return TransplantState(source) if source is not None else None

    def apply(self, host: Host, have: TransplantState | None) -> None:
        path = f"{FOLDER}/{self.what}.db"
        host.remove(path)
        host.mkdir(FOLDER, mode=0o700, owner=self.user, group=self.group)
        host.write(path, b"", mode=0o600, owner=self.user, group=self.group)
        _copy(host, self.source, path)
        argv = [self.python, "-m", "mlflow_onprem_server.transplant", self.what, path]
        environment = {**dict(self.environment), "HOME": "/var/lib/mlflow"}
        hint = f"nothing is lost: {self.source} was only read, and our database is as before. Fix what it says, then run this again"
        answer = json.loads(host.run(argv, user=self.user, env=environment, timeout=86_400, hint=hint, tied=True).out.splitlines()[-1])
        note = _note(host)
        note = {**note, "brought": {**note.get("brought", {}), self.what: self.source}, "warnings": [*note.get("warnings", []), *_warnings(answer)]}
        host.write(NOTE, (json.dumps(note) + "\n").encode(), mode=0o600, owner="root", group="root")
        host.remove(FOLDER)


def _warnings(answer: dict[str, Any]) -> list[str]:
    found = [
        f"the account {name} had the password of MLflow's documentation and is let in no more: sudo mlflow-onprem user passwd {name}"
        for name in answer.get("locked", [])
    ]
    if left := answer["left"]:
        rows = ", ".join(f"{count} of {table}" for table, count in left.items())
        found.append(f"rows whose run or experiment is gone stayed in the old file: {rows}.")
    return found


def _copy(host: Host, source: str, target: str) -> None:
    """A whole and consistent copy, with what is still in its log."""
    if host.stat(source) is None:
        raise OnPremError(f"{source} is gone, with what the old MLflow kept in it", "put it back, then run this again")
    try:
        with closing(sqlite3.connect(f"{host.local(source).as_uri()}?mode=ro", uri=True)) as old, closing(sqlite3.connect(host.local(target))) as new:
            old.backup(new)
    except sqlite3.Error as failed:
        raise OnPremError(f"{source} cannot be read: {failed}", "put a good copy in its place, then run this again") from failed


def tables(host: Host, path: str) -> tuple[str | None, tuple[str, ...]]:
    """The revision of the runs' tables in an SQLite file (None: none), and the names of its accounts. Raises OnPremError where it is no such file."""
    revision: str | None = None
    names: tuple[str, ...] = ()
    try:
        with closing(sqlite3.connect(f"{host.local(path).as_uri()}?mode=ro", uri=True)) as file:
            known = {str(name) for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "alembic_version" in known:
                revision = next((str(row[0]) for row in file.execute("SELECT version_num FROM alembic_version")), None)
            if "users" in known:
                names = tuple(str(row[0]) for row in file.execute("SELECT username FROM users ORDER BY username"))
    except sqlite3.Error as failed:
        raise OnPremError(f"{path} cannot be read: {failed}", "is it the database of the old MLflow? put a good copy in its place") from failed
    return revision, names


def locations(host: Host, path: str) -> list[str]:
    """Where experiments in an SQLite file keep their artifacts. Raises OnPremError where it is no such file."""
    try:
        with closing(sqlite3.connect(f"{host.local(path).as_uri()}?mode=ro", uri=True)) as file:
            return [str(row[0]) for row in file.execute("SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location IS NOT NULL")]
    except sqlite3.Error as failed:
        raise OnPremError(f"{path} cannot be read: {failed}", "is it the database of the old MLflow? put a good copy in its place") from failed


def denials(host: Host, path: str) -> int:
    """How many rules of an SQLite file of accounts forbid one of them something. Raises OnPremError where it is no such file."""
    try:
        with closing(sqlite3.connect(f"{host.local(path).as_uri()}?mode=ro", uri=True)) as file:
            names = [str(name) for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%permissions'")]
            counts = (file.execute(f"SELECT count(*) FROM \"{name}\" WHERE permission = 'NO_PERMISSIONS'") for name in names)  # noqa: S608  # tables' names
            return sum(int(each.fetchone()[0]) for each in counts)
    except sqlite3.Error as failed:
        raise OnPremError(f"{path} cannot be read: {failed}", "is it the database of the old MLflow? put a good copy in its place") from failed


def _note(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.read(NOTE) or b"{}")
    return found
