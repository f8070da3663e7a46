"""A stack as backup and restore meet it: databases, a bucket, MLflow that writes while it runs. Real files, and real code from `context.enter` up.

Every act is a point at which a test may kill the run, let it fail or press Ctrl-C. What must never happen is noted in `wrong`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_onprem.backup import context, database
from mlflow_onprem.backup.objects import Entry
from mlflow_onprem.backup.repository import Folder, Repository, pieces, pool_name
from mlflow_onprem.core import engine
from mlflow_onprem.core.errors import Unhealthy
from mlflow_onprem.core.host import Result
from mlflow_onprem.core.resource import Phase
from mlflow_onprem.restore import steps
from mlflow_onprem.settings import credentials
from mlflow_onprem.settings.config import Config
from mlflow_onprem.stack import health
from mlflow_onprem.system import stopped
from mlflow_onprem.system.local_host import LocalHost
from tests.fakes import Crashed

Rows = dict[str, list[Any]]
KEY = "keyed"  # the table that only the secrets of its own time open
BACKUPS = Config().backup.to
PUT = Folder.put


@contextlib.contextmanager
def in_memory() -> Iterator[Path]:
    """A folder for many small files, in memory where there is a place for that."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Host(LocalHost):
    """This machine below a folder; changes are points, and a run that was killed changes nothing more."""

    world: World

    def write(self, path: str, content: bytes, **attributes: Any) -> None:
        with self.world.act(f"write {path}"):
            super().write(path, content, **attributes)

    def remove(self, path: str) -> None:
        with self.world.act(f"remove {path}"):
            super().remove(path)

    def run(self, argv: Any, **_: Any) -> Result:
        if argv[0] == "sync":
            return Result(0, "", "")
        assert argv == ["systemctl", "disable", "mlflow.service"]
        with self.world.act("disable MLflow"):
            self.world.enabled = False
        return Result(0, "", "")

    def pipe(self, argv: Any, *, source: Path | None = None, target: Path | None = None, **_: Any) -> None:
        self.world.postgres.program(argv[0].rpartition("/")[2], argv[-1].removeprefix("--dbname="), source, target)


class Act:
    """A point before an act and one after it."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name

    def __enter__(self) -> None:
        self.world.point(f"before {self.name}")

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.world.point(f"after {self.name}")


@dataclass
class Postgres:
    """One cluster: rows by table by database. A transaction that was not committed did nothing."""

    world: World
    databases: dict[str, Rows] = field(default_factory=dict)
    pending: dict[str, Rows] | None = None
    loses: bool = False  # pg_restore leaves a row out

    def query(self, name: str, statement: str, identifiers: Any = None, literals: Any = None) -> list[list[Any]]:  # noqa: PLR0911  # a statement, an answer
        self.world.alive()
        rows = self.databases.get(name, {})
        if statement == "SHOW server_version_num":
            return [["150010"]]
        if "template0" in statement and statement.startswith("SELECT"):
            return [["UTF8", "C.UTF-8", "150010"]]
        if "FROM pg_database" in statement:
            return [[1]] if literals["name"] in self.databases else []
        if "pg_export_snapshot" in statement:
            return [["snapshot"]]
        if "FROM pg_tables" in statement:
            return [[table] for table in sorted(rows)]
        if statement == database.FINGERPRINT:
            found = rows[identifiers["table"]]
            return [[len(found), hashlib.sha256(json.dumps(found).encode()).hexdigest()]]
        if "alembic" in statement:
            return [["r1"]]
        if statement.startswith("SELECT count(*) FROM runs"):
            return [[len(rows.get("runs", []))]]
        if statement.startswith("SELECT"):
            return []
        self._change(statement, identifiers or {})
        return []

    def close(self) -> None:
        self.pending = None

    def program(self, program: str, uri: str, source: Path | None, target: Path | None) -> None:
        name = uri.partition("?")[0].rpartition("/")[2]
        with self.world.act(f"{program} {name}"):
            if program == "pg_restore":
                assert source is not None
                found = json.loads(source.read_text())
                if self.loses:
                    found["runs"] = found["runs"][1:]
                self.databases[name] = found
            else:
                assert target is not None
                target.write_text(json.dumps(self.databases.get(name, {})))

    def _change(self, statement: str, names: Any) -> None:
        if statement == "BEGIN":
            self.pending = dict(self.databases)
        elif statement == "COMMIT" and self.pending is not None:
            with self.world.act("exchange"):
                self.world.quiet("databases are exchanged")
                self.databases, self.pending = self.pending, None
        elif "RENAME" in statement:
            assert self.pending is not None
            assert names["new"] not in self.pending, f"there is a database {names['new']}"
            self.pending[names["new"]] = self.pending.pop(names["old"])
        elif statement.startswith("CREATE DATABASE"):
            with self.world.act(f"create {names['database']}"):
                assert names["database"] not in self.databases
                self.databases[names["database"]] = {}
        elif statement.startswith("DROP DATABASE") and names["database"] in self.databases:
            with self.world.act(f"drop {names['database']}"):
                del self.databases[names["database"]]


@dataclass
class FakeBucket:
    """The stack's bucket."""

    world: World
    objects: dict[str, bytes]
    name: str = "mlflow"
    against: str = ""

    def list(self) -> Iterator[Entry]:
        for key, content in sorted(self.objects.items()):
            yield Entry(key, hashlib.sha256(content).hexdigest()[:8], len(content), "then")

    def remove(self, key: str) -> None:
        with self.world.act(f"remove object {key}"):
            del self.objects[key]

    def copy_to(self, repository: Repository, entry: Entry, on_bytes: Callable[[int], None]) -> Entry | None:
        if self.world.vanishing and entry.key.startswith("run/") and "after pg_dump mlflow_auth" in self.world.points:
            # A client deletes the run that was just dumped, and its files.
            self.world.vanishing -= 1
            self.world.postgres.databases["mlflow"]["runs"].remove(entry.key.removeprefix("run/"))
            del self.objects[entry.key]
        content = self.objects.get(entry.key)
        if content is None:
            return None
        with self.world.act(f"pool {entry.key}"):
            on_bytes(len(content))
            return dataclasses.replace(entry, sha256=repository.store(pieces(iter([content])), len(content)))

    def copy_from(self, repository: Repository, entry: Entry, on_bytes: Callable[[int], None]) -> None:
        with self.world.act(f"object {entry.key}"):
            self.world.quiet("objects are copied")
            self.objects[entry.key] = b"".join(repository.open(pool_name(entry.sha256)))


@dataclass(frozen=True)
class FakeLists:
    """Resources, of which only MLflow running matters here, and on which secrets."""

    secret: str
    serves: bool = True

    def only(self, phases: Collection[Phase]) -> FakeLists:
        return FakeLists(self.secret, Phase.SERVE in phases)


class World:
    """`at`: the point at which `raising` happens. `running` is MLflow; while it serves the rows that were here it writes more of them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = Host(root)
        self.host.world = self
        self.postgres = Postgres(self)
        self.bucket = FakeBucket(self, {})
        self.config = Config()
        self.points: list[str] = []
        self.at: int | None = None
        self.raising: Callable[[], BaseException | None] = Crashed
        self.dead = False
        self.running = self.enabled = self.restoring = False
        self.secret = ""
        self.written: list[str] = []
        self.wrong: list[str] = []
        self.opened = 0
        self.unhealthy = False
        self.artifacts = False  # whether what MLflow writes has files in the bucket
        self.vanishing = 0
        self.said: list[str] = []
        self.host.on_say = self.said.append
        self._lock = threading.RLock()
        for module in (context, steps):
            monkeypatch.setattr(module, "assemble", self.assemble)
        monkeypatch.setattr(context, "bucket", lambda *_: self.bucket)
        monkeypatch.setattr(engine, "converge", self.converge)
        monkeypatch.setattr(stopped, "stop", self.stop)
        monkeypatch.setattr(health, "wait", self.healthy)
        monkeypatch.setattr(Folder, "put", self.put)
        monkeypatch.setattr(os, "fsync", lambda _: None)

    # how a test arms it ----------------------------------------------------------------------------------------------

    def armed(self, at: int | None, raising: Callable[[], BaseException | None] = Crashed) -> World:
        """A new run; where the last one was killed the host was rebooted, which starts MLflow."""
        if self.dead and self.enabled:
            self.running, self.secret = True, self.on_disk()
        self.points.clear()
        self.postgres.pending = None
        self.at, self.raising, self.dead = at, raising, False
        return self

    def alive(self) -> None:
        if self.dead:
            raise Crashed("dead already")

    def act(self, name: str) -> Act:
        return Act(self, name)

    def point(self, name: str) -> None:
        with self._lock:
            self.alive()
            self.points.append(name)
            rows = self.postgres.databases.get("mlflow", {}).get("runs")
            if self.running and rows and "here" in rows and " run/" not in name:
                self.written.append(f"written {len(self.written)}")
                rows.append(self.written[-1])
                if self.artifacts:
                    self.bucket.objects[f"run/{self.written[-1]}"] = self.written[-1].encode()
            if len(self.points) == self.at:
                failure = self.raising()
                self.dead = isinstance(failure, Crashed)
                if failure is not None:
                    raise failure

    def quiet(self, what: str) -> None:
        if self.restoring and self.running:
            self.wrong.append(f"MLflow writes while {what}")

    # the stack -------------------------------------------------------------------------------------------------------

    def on_disk(self) -> str:
        return credentials.parse((self.host.read(credentials.PATH) or b"").decode()).kek_passphrase.reveal()

    def install(self, rows: list[str], objects: dict[str, bytes]) -> None:
        """A stack with these rows and objects, and secrets of its own."""
        made = credentials.generate()
        self.host.local("/etc/mlflow-onprem").mkdir(parents=True, exist_ok=True)
        self.host.local(credentials.PATH).write_bytes(credentials.serialize(made).reveal().encode())
        self.host.local("/etc/mlflow-onprem/config.toml").write_text("")
        self.bucket.objects = dict(objects)
        key = made.kek_passphrase.reveal()
        self.postgres.databases = {"postgres": {}, "mlflow": {"runs": list(rows), KEY: [key]}, "mlflow_auth": {"users": list(rows)}}
        self.running = self.enabled = True
        self.secret = key

    def assemble(self, host: LocalHost, config: Config) -> Any:
        self.opened += 1
        found = credentials.parse((host.read(credentials.PATH) or b"").decode())
        key = found.kek_passphrase.reveal()
        return SimpleNamespace(
            config=config, credentials=found, facts=SimpleNamespace(names=("server",), codename="bookworm", python_version="3.11"),
            external=None, to=SimpleNamespace(systemd=SimpleNamespace(forget=lambda: None)), sql=self.postgres, probes=lambda: (),
            stack=FakeLists(key), migrating=FakeLists(key), close=lambda: None,
        )  # fmt: skip

    def converge(self, host: LocalHost, stack: FakeLists, *_: Any) -> None:
        with self.act("converge"):
            for name in ("mlflow", "mlflow_auth"):
                self.postgres.databases.setdefault(name, {})
        if stack.serves:
            with self.act("start MLflow"):
                self.running, self.enabled, self.secret = True, True, stack.secret

    def stop(self, *_: Any) -> None:
        with self.act("stop MLflow"):
            self.running = False

    @property
    def put(self) -> Callable[[Folder, str, Path], None]:
        def put(folder: Folder, name: str, path: Path) -> None:
            with self.act(f"put {name.rpartition('/')[2]}"):
                PUT(folder, name, path)

        return put

    def healthy(self, *_: Any) -> None:
        with self.act("ask"):
            if self.unhealthy:
                self.unhealthy = False
                raise Unhealthy("made up")
            if not self.running or self.postgres.databases["mlflow"].get(KEY) not in ([self.secret], None):
                raise Unhealthy("MLflow does not open its own tables")

    # what a test finds -----------------------------------------------------------------------------------------------

    def repository(self) -> Folder:
        return Folder(self.host, BACKUPS)

    def in_backups(self) -> str:
        """All dumps of all whole backups."""
        return "".join(each.read_text() for each in self.host.local(BACKUPS).rglob("*.dump"))
