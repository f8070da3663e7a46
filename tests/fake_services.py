"""What runs on the fake host: systemd, apt, PostgreSQL, an object store, uv. Each keeps what it started with, as the real one does."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_onprem.clients.sql import SqlError
from mlflow_onprem.clients.store_contract import Lack
from mlflow_onprem.clients.store_errors import StoreRefused, StoreUnreachable
from mlflow_onprem.core.host import Result
from mlflow_onprem.core.secret import Secret
from tests.fakes import START, Call, FakeHost

ETC = "/etc/mlflow-onprem"
POSTGRES = "postgresql@15-main.service"
CLUSTER = "/etc/postgresql/15/main"
#: Settings that a running PostgreSQL takes up at a restart only.
NEED_RESTART = ("listen_addresses", "max_connections", "port", "shared_buffers")
OURS: Mapping[str, tuple[str, ...]] = {
    "minio.service": (f"{ETC}/minio.env", f"{ETC}/minio/", "/opt/mlflow-onprem/object-store/current"),
    "mlflow.service": (f"{ETC}/mlflow.env", f"{ETC}/mlflow/", "/opt/mlflow-onprem/environments/current"),
    POSTGRES: (),
}
Contents = Mapping[str, bytes]


@dataclass
class Unit:
    """`ran_on` is what it read at its start."""

    packaged: bool = False
    active: bool = False
    enabled: bool = False
    masked: bool = False
    started: float = 0.0
    starts: int = 0
    reloads: int = 0
    loaded: Contents | None = None
    ran_on: Contents = field(default_factory=dict)


@dataclass
class FakeSystemd:
    """`systemctl`, as far as mlflow-onprem calls it. A unit in `dies` never comes up."""

    host: FakeHost
    units: dict[str, Unit] = field(default_factory=dict)
    dies: set[str] = field(default_factory=set)

    def unit(self, name: str) -> Unit:
        return self.units.setdefault(name, Unit())

    def inputs(self, name: str) -> Contents:
        """What this service would read if it started now; the administrator's first password is not for the running service."""
        found = dict(self._files(name))
        for place in OURS.get(name, ()):
            for path, node in list(self.host.nodes.items()):
                wanted = path == place or (place.endswith("/") and path.startswith(place) and not path.endswith("/admin-password"))
                if wanted and node.kind != "directory":
                    found[path] = node.content
        return found

    def __call__(self, call: Call) -> Result:
        words = [each for each in call.argv[1:] if not each.startswith("--")]
        verb, names = words[0], words[1:]
        self.host.put("/proc/uptime", f"{self.host.clock.now - START:.2f} 0.00\n")
        if verb == "show":
            return Result(0, "\n\n".join(self._show(name) for name in names) + "\n", "")
        if verb == "daemon-reload":
            for name, unit in self.units.items():
                unit.loaded = self._files(name)
            return Result(0, "", "")
        unit = self.unit(names[0])
        if self._load(names[0]) == "not-found":
            return Result(5, "", f"Unit {names[0]} not found.\n")
        return self._act(verb, names[0], unit, now="--now" in call.argv)

    def _act(self, verb: str, name: str, unit: Unit, *, now: bool) -> Result:
        if verb in ("start", "restart"):
            if unit.masked or name in self.dies:
                return Result(1, "", f"Job for {name} failed because the control process exited with error code.\n")
            if unit.loaded is None or not unit.active:
                unit.loaded = self._files(name)
            unit.ran_on = {**self.inputs(name), **unit.loaded}
            unit.active, unit.started, unit.starts = True, self.host.clock.now, unit.starts + 1
        elif verb == "reload":
            assert unit.active
            secrets = {path: content for path, content in self.inputs(name).items() if path.startswith(f"{ETC}/mlflow/")}
            unit.ran_on, unit.reloads = {**unit.ran_on, **secrets}, unit.reloads + 1
            self._worker(unit)
        elif verb in ("enable", "disable"):
            unit.enabled = verb == "enable"
            if now:
                unit.active = False
        elif verb == "unmask":
            unit.masked = False
        else:
            assert verb == "reset-failed", verb
        return Result(0, "", "")

    def _worker(self, unit: Unit) -> None:
        """A worker's process, as /proc shows it: started now, in hundredths of a second since boot."""
        ticks = round((self.host.clock.tick() - START) * 100) + 1
        self.host.put(f"/proc/{1000 + unit.starts + unit.reloads}/stat", f"1 (python) S {' '.join(['0'] * 18)} {ticks} 0\n")

    def _files(self, name: str) -> Contents:
        path = f"/etc/systemd/system/{name}"
        return {
            each: node.content
            for each, node in list(self.host.nodes.items())
            if node.kind == "file" and (each == path or each.startswith(f"{path}.d/"))
        }

    def _load(self, name: str) -> str:
        unit = self.unit(name)
        if unit.masked:
            return "masked"
        return "loaded" if unit.packaged or f"/etc/systemd/system/{name}" in self.host.nodes else "not-found"

    def _show(self, name: str) -> str:
        unit, load = self.unit(name), self._load(name)
        if unit.loaded is None and load == "loaded":
            unit.loaded = self._files(name)
        stale = unit.active and unit.loaded != self._files(name)
        rows = {
            "MainPID": 100 + unit.starts if unit.active else 0,
            "Result": "success",
            "NRestarts": 0,
            "ExecMainStartTimestamp": time.strftime("%a %Y-%m-%d %H:%M:%S UTC", time.gmtime(unit.started)) if unit.started else "",
            "Id": name,
            "LoadState": load,
            "ActiveState": "active" if unit.active else "inactive",
            "SubState": "running" if unit.active else "dead",
            "UnitFileState": "" if load == "not-found" else "enabled" if unit.enabled else "disabled",
            "NeedDaemonReload": "yes" if stale else "no",
            "InvocationID": f"{unit.starts:032x}",
            "StatusText": f"failed_reloads=0 workers={1000 + unit.starts + unit.reloads}",
        }
        return "\n".join(f"{key}={value}" for key, value in rows.items())


@dataclass
class FakeSql:
    """One cluster. Answers the statements that mlflow-onprem sends and no others."""

    host: FakeHost
    systemd: FakeSystemd
    local: bool = True
    roles: dict[str, list[Any]] = field(default_factory=dict)
    databases: dict[str, list[Any]] = field(default_factory=lambda: {"postgres": ["postgres", True]})
    revisions: dict[str, str] = field(default_factory=dict)
    admins: set[str] = field(default_factory=set)
    overrides: dict[str, str] = field(default_factory=dict)
    loaded_at: float = 0.0
    loaded: Contents = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    sent: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    starts: int = 0
    encoding: str = "UTF8"
    ctype: str = "C.UTF-8"

    def query(
        self, database: str, statement: str, identifiers: Mapping[str, str] | None = None, literals: Mapping[str, Any] | None = None
    ) -> list[list[Any]]:
        self.host.alive()
        names, values = dict(identifiers or {}), {k: v.reveal() if isinstance(v, Secret) else v for k, v in (literals or {}).items()}
        self.sent.append((statement, {**names, **values}))
        if self.local:
            self._server()
        if database not in self.databases:
            raise SqlError(f'database "{database}" does not exist', "3D000")
        verb = statement.split(maxsplit=1)[0]
        if verb == "SELECT":
            return self._select(database, statement, values)
        self._change(statement, names, values)
        self.host.act(f"sql {statement[:60]} {' '.join(names.values())}")
        return []

    def on_disk(self) -> Contents:
        """The cluster's files as they are now."""
        return {path: node.content for path, node in list(self.host.nodes.items()) if path.startswith(f"{CLUSTER}/") and node.kind == "file"}

    def _server(self) -> None:
        unit = self.systemd.unit(POSTGRES)
        if not unit.active:
            raise SqlError("connection to server failed: No such file or directory", "08006")
        if unit.starts != self.starts:
            self.starts, self.loaded, self.loaded_at, self.running = unit.starts, self.on_disk(), unit.started, self._settings()

    def _settings(self) -> dict[str, str]:
        text = self.loaded.get(f"{CLUSTER}/conf.d/90-mlflow-onprem.conf", b"").decode()
        return {key: value for key, _, value in (line.partition(" = ") for line in text.splitlines()) if key in NEED_RESTART}

    def _select(self, database: str, statement: str, values: Mapping[str, Any]) -> list[list[Any]]:  # noqa: PLR0911  # a statement, an answer
        if "FROM pg_authid" in statement:
            return [self.roles[values["role"]]] if values["role"] in self.roles else []
        if "template0" in statement:
            return [[self.encoding, self.ctype, "150010"]]
        if statement == "SELECT 1":
            return [[1]]
        if "FROM pg_database" in statement:
            return [self.databases[values["database"]]] if values["database"] in self.databases else []
        if "FROM pg_file_settings WHERE sourcefile" in statement:
            return [[name, value] for name, value in sorted(self.overrides.items())]
        if statement == "SELECT pg_conf_load_time()":
            return [[self.loaded_at]]
        if "pg_conf_load_time" in statement:
            return [[self.loaded_at, sorted(key for key, value in self._settings().items() if self.running.get(key) != value), 0]]
        if statement == "SELECT pg_reload_conf()":
            self.loaded, self.loaded_at = self.on_disk(), self.host.clock.tick()
            self.host.act("sql reload")
            return [[True]]
        if statement == "SELECT pg_postmaster_start_time()":
            return [[f"start {self.starts}"]]
        if database not in self.revisions:
            raise SqlError('relation "alembic_version" does not exist', "42P01")
        if "FROM alembic_version" in statement:
            return [[self.revisions[database]]]
        assert "FROM users" in statement, statement
        return [[values["name"]]] if values["name"] in self.admins else []

    def _change(self, statement: str, names: Mapping[str, str], values: Mapping[str, Any]) -> None:
        verb = " ".join(statement.split()[:2])
        if verb == "CREATE ROLE":
            self.roles[names["role"]] = [False, False, False, None]
        elif verb == "ALTER ROLE":
            self.roles[names["role"]] = [True, False, False, values["verifier"]]
        elif verb == "DROP ROLE":
            if any(owner == names["role"] for owner, _ in self.databases.values()):
                raise SqlError("role cannot be dropped because some objects depend on it", "2BP01")
            self.roles.pop(names["role"], None)
        elif verb == "CREATE DATABASE":
            if self.local and names["owner"] not in self.roles:
                raise SqlError(f'role "{names["owner"]}" does not exist', "42704")
            self.databases[names["database"]] = [names["owner"], True]
        elif verb == "ALTER DATABASE":
            self.databases[names["database"]][0] = names["owner"]
        elif verb == "REVOKE CONNECT,":
            self.databases[names["database"]][1] = False
        elif verb == "ALTER SYSTEM":
            del self.overrides[names["setting"]]
        else:
            assert verb == "DROP DATABASE", statement
            self.databases.pop(names["database"], None)
            self.revisions.pop(names["database"], None)


@dataclass
class StoreData:
    """What is on the store's disk."""

    buckets: set[str] = field(default_factory=set)
    keys: dict[str, tuple[Secret, dict[str, Any]]] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    lacking: tuple[Lack, ...] = ()
    trials: list[tuple[str, str | None, bool]] = field(default_factory=list)


@dataclass
class FakeStore:
    """The store as one administrator sees it: the one whose password the server was started with, or nobody."""

    host: FakeHost
    data: StoreData
    access_key: str
    secret_key: Secret
    systemd: FakeSystemd | None

    def has_bucket(self, bucket: str) -> bool:
        self._let_in()
        return bucket in self.data.buckets

    def make_bucket(self, bucket: str) -> None:
        self._let_in()
        self.data.buckets.add(bucket)
        self.host.act(f"store bucket {bucket}")

    def remove_bucket(self, bucket: str) -> None:
        self._let_in()
        self.data.buckets.discard(bucket)
        self.host.act(f"store no bucket {bucket}")

    def key_policy(self, access_key: str) -> dict[str, Any] | None:
        self._let_in()
        if access_key not in self.data.keys:
            return None
        policy = self.data.keys[access_key][1]
        rows = [{key: value[::-1] if isinstance(value, list) else value for key, value in reversed(row.items())} for row in policy["Statement"]]
        return {"Statement": rows, "Version": policy["Version"]}

    def add_key(self, access_key: str, secret_key: Secret, policy: dict[str, Any]) -> None:
        self._let_in()
        assert access_key not in self.data.keys
        self.data.keys[access_key] = (secret_key, policy)
        self.host.act(f"store key {access_key}")

    def remove_key(self, access_key: str) -> None:
        self._let_in()
        del self.data.keys[access_key]
        self.host.act("store no key")

    def key_works(self, access_key: str, secret_key: Secret, bucket: str) -> bool:
        self._let_in()
        return access_key in self.data.keys and self.data.keys[access_key][0] == secret_key

    def lacks(self, name: str, bucket: str | None, *, presigned: bool) -> tuple[Lack, ...]:
        self._let_in()
        assert bucket is None or bucket in self.data.buckets
        self.data.trials.append((name, bucket, presigned))
        return self.data.lacking

    def bring(self, bucket: str, name: str, file: Path) -> None:
        self._let_in()
        self.data.objects[f"{bucket}/{name}"] = file.read_bytes()

    def _let_in(self) -> None:
        self.host.alive()
        if self.systemd is None:
            return
        unit = self.systemd.unit("minio.service")
        if not unit.active:
            raise StoreUnreachable("the object store does not answer")
        user, password = (unit.ran_on[f"{ETC}/minio/{name}"].decode() for name in ("root-user", "root-password"))
        if (user, Secret(password)) != (self.access_key, self.secret_key):
            raise StoreRefused("the object store refuses these credentials")


@dataclass
class FakeApt:
    """apt-get, dpkg, dpkg-query and apt-cache. `candidates` are what apt-cache offers."""

    host: FakeHost
    systemd: FakeSystemd
    installed: set[str] = field(default_factory=set)
    candidates: dict[str, str] = field(default_factory=dict)
    makes_cluster: bool = True

    def get(self, call: Call) -> Result:
        if "--simulate" in call.argv or "--download-only" in call.argv:
            return Result(0, "", "")
        verb = next(each for each in call.argv[2:] if each in ("install", "update", "purge"))
        packages = [each for each in call.argv[call.argv.index(verb) + 1 :] if not each.startswith("-")]
        if verb == "update":
            self.host.put("/var/lib/apt/lists/main_Packages", "")
            return Result(0, "", "")
        for package in packages:
            self.installed.add(package) if verb == "install" else self.installed.discard(package)
            if package.startswith("postgresql-") and verb == "install":
                self._postgres()
            if package.startswith("python3."):
                self.host.put(f"/usr/bin/{package}", "", 0o755)
        return Result(0, "", "")

    def dpkg(self, _: Call) -> Result:
        return Result(0, "", "")

    def query(self, call: Call) -> Result:
        wanted = call.argv[4:] or sorted(self.installed)
        asked = [each for each in wanted if each in self.installed]
        return Result(0 if len(asked) == len(wanted) else 1, "".join(f"{each} ii \n" for each in asked), "")

    def cache(self, call: Call) -> Result:
        version = self.candidates.get(call.argv[2])
        return Result(0, f"{call.argv[2]}:\n  Installed: (none)\n  Candidate: {version}\n" if version else "", "")

    def _postgres(self) -> None:
        add_account(self.host, "postgres", "/var/lib/postgresql", "/bin/bash") if "postgres" not in self.accounts() else None
        if self.makes_cluster and CLUSTER not in self.host.nodes:
            self.create_cluster()

    def createcluster(self, call: Call) -> Result:
        """pg_createcluster, which does not start what it makes."""
        assert call.argv[-2:] == ("15", "main"), call.argv
        self.create_cluster()
        self.systemd.unit(POSTGRES).active = False
        return Result(0, "", "")

    def accounts(self) -> list[str]:
        return [line.partition(":")[0] for line in self.host.nodes["/etc/passwd"].content.decode().splitlines()]

    def create_cluster(self) -> None:
        for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
            self.host.put(f"{CLUSTER}/{name}", f"# Debian's {name}\n", 0o640, "postgres", "postgres")
        self.host.put(f"{CLUSTER}/conf.d/00-debian.conf", "", 0o644, "postgres", "postgres")
        for name in (POSTGRES, "postgresql.service"):
            unit = self.systemd.unit(name)
            unit.packaged = unit.enabled = unit.active = True
            unit.started, unit.starts, unit.loaded = self.host.clock.now, 1, self.systemd.inputs(name)


def add_account(host: FakeHost, user: str, home: str, shell: str) -> None:
    """A line in passwd and one in group."""
    for path, line in (("/etc/passwd", f"{user}:x:900:900::{home}:{shell}\n"), ("/etc/group", f"{user}:x:900:\n")):
        host.put(path, host.nodes[path].content + line.encode())


@dataclass
class FakePrograms:
    """useradd, uv and the interpreters that uv makes."""

    host: FakeHost
    sql: FakeSql
    heads: tuple[str, str]

    def useradd(self, call: Call) -> Result:
        options = dict(zip(call.argv, call.argv[1:], strict=False))
        if f"\n{call.argv[-1]}:".encode() in self.host.nodes["/etc/passwd"].content:
            return Result(9, "", f"useradd: user '{call.argv[-1]}' already exists\n")
        add_account(self.host, call.argv[-1], options["--home-dir"], options["--shell"])
        return Result(0, "", "")

    def userdel(self, call: Call) -> Result:
        for path in ("/etc/passwd", "/etc/group"):
            lines = self.host.nodes[path].content.splitlines(keepends=True)
            self.host.put(path, b"".join(line for line in lines if not line.startswith(f"{call.argv[-1]}:".encode())))
        return Result(0, "", "")

    def uv(self, call: Call) -> Result:
        if call.argv[1] == "venv":
            self.host.put(f"{call.argv[-1]}/bin/python", "an interpreter", 0o755)
            return Result(0, "", "")
        python = call.argv[call.argv.index("--python") + 1]
        folder = python.removesuffix("/bin/python")
        what = call.argv[-1] if call.argv[-1] != f"{folder}/requirements.txt" else "mlflow"
        self.host.put(f"{folder}/lib/site-packages/{posixpath.basename(what)}/__init__.py", what)
        return Result(0, "", "")

    def getent(self, call: Call) -> Result:
        """No directory is behind this host's own files."""
        return Result(2, "", "")

    def find(self, call: Call) -> Result:
        """The one `find` of an environment's fingerprint; that of its permissions finds nothing."""
        if "-perm" in call.argv:
            return Result(0, "", "")
        assert call.argv[1].endswith("/")
        assert "-printf" in call.argv
        rows = (
            f"-rw-r--r-- {node.owner}\t{path.removeprefix(call.argv[1])} {len(node.content)} {node.mtime:.10f} "
            for path, node in list(self.host.nodes.items())
            if path.startswith(call.argv[1]) and node.kind != "directory" and not path.endswith("/environment.json")
        )
        return Result(0, "".join(f"{row}\n" for row in rows), "")

    def python(self, call: Call) -> Result:
        if "-c" in call.argv:
            return Result(0, call.argv[0].removesuffix("/bin/python") + "/lib/site-packages\n", "")
        if "compileall" in call.argv:
            self.host.put(f"{call.argv[-1]}/__pycache__/all.pyc", "byte code")
        if call.argv[-1] == "mlflow_onprem_server.schema":
            self._migrate(call)
        return Result(0, "", "")

    def _migrate(self, call: Call) -> None:
        assert call.user == "mlflow"
        database = call.env["ONPREM_DATABASE_URI"].rpartition("/")[2] if "?" not in call.env["ONPREM_DATABASE_URI"] else ""
        database = database or call.env["ONPREM_DATABASE_URI"].partition("?")[0].rpartition("/")[2]
        assert database in self.sql.databases, "the database has to be there before its tables"
        self.sql.revisions[database] = self.heads[0]
        if call.env["ONPREM_AUTH"] == "true":
            assert self.host.read(call.env["ONPREM_ADMIN_PASSWORD_FILE"])
            assert "mlflow_auth" in self.sql.databases
            self.sql.revisions["mlflow_auth"] = self.heads[1]
            self.sql.admins.add("admin")
