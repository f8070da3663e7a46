"""What a hand-built server kept on the disk: which files and folders are meant, and what of them goes into the bucket."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlflow_onprem.clients.store_copy import bring
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.core.host import Result
from mlflow_onprem.resources.adoption import NOTE
from mlflow_onprem.resources.artifact_addresses import ProxiedRoots, RootsState
from mlflow_onprem.resources.artifact_folders import ArtifactFolder, ArtifactFolderState
from mlflow_onprem.resources.transplant import FOLDER, Transplant, TransplantState, tables
from mlflow_onprem.settings.config import Config
from mlflow_onprem.stack import adoption
from mlflow_onprem.stack.adoption_checks import Sources, check_artifacts, check_server, folders, prefix_in_bucket
from mlflow_onprem.system.hand_built import Ours, Server
from mlflow_onprem.system.local_host import LocalHost
from tests.fakes import Call, FakeHost


def database(path: Path, revision: str = "dc11669786a5", names: tuple[str, ...] = ()) -> Path:
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE alembic_version (version_num TEXT)")
        file.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
        file.execute("CREATE TABLE users (username TEXT)")
        file.executemany("INSERT INTO users VALUES (?)", [(name,) for name in names])
    file.close()
    return path


def test_files_are_found_from_where_the_server_was_started(tmp_path: Path) -> None:
    host = LocalHost()
    database(tmp_path / "mlflow.db")
    database(tmp_path / "basic_auth.db", names=("admin", "bob"))
    for backend in ("sqlite:///mlflow.db", f"sqlite:///{tmp_path}/mlflow.db", ""):
        found = check_server(host, Server(backend=backend, folder=str(tmp_path), accounts="default"), Config(), tables=False)
        assert found == Sources(f"{tmp_path}/mlflow.db", f"{tmp_path}/basic_auth.db", ("admin", "bob"))
    (tmp_path / "own.ini").write_text("[mlflow]\ndatabase_uri = sqlite:///basic_auth.db\nadmin_password = x%y\n")
    own = Server(backend="sqlite:///mlflow.db", folder=str(tmp_path), accounts="own.ini")
    assert check_server(host, own, Config(), tables=False).accounts == f"{tmp_path}/basic_auth.db"
    without = Config.model_validate({"mlflow": {"auth": {"enabled": False}}})
    assert check_server(host, own, without, tables=False).accounts == ""


def test_what_the_old_server_hid_is_not_shown_by_ours(tmp_path: Path) -> None:
    host = LocalHost()
    database(tmp_path / "mlflow.db")
    database(tmp_path / "basic_auth.db", names=("admin", "bob"))
    old = Server(backend="sqlite:///mlflow.db", folder=str(tmp_path), accounts="default")
    hiding = Config.model_validate({"mlflow": {"auth": {"default_permission": "NO_PERMISSIONS"}}})
    check_server(host, old, Config(), tables=False)
    with sqlite3.connect(tmp_path / "basic_auth.db") as file:
        file.execute("CREATE TABLE experiment_permissions (permission TEXT)")
        file.execute("INSERT INTO experiment_permissions VALUES ('NO_PERMISSIONS')")
    file.close()
    with pytest.raises(Refused, match="forbids accounts what others own") as refused:
        check_server(host, old, Config(), tables=False)
    assert 'default_permission = "NO_PERMISSIONS"' in refused.value.hint
    check_server(host, old, hiding, tables=False)
    (tmp_path / "own.ini").write_text(f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{database(tmp_path / 'other.db')}\n")
    with pytest.raises(Refused, match="shows an account only what it was given"):
        check_server(host, Server(backend=old.backend, folder=old.folder, accounts="own.ini"), Config(), tables=False)


def test_a_database_that_cannot_become_ours_is_refused(tmp_path: Path) -> None:
    host = LocalHost()
    newer = Server(backend=f"sqlite:///{database(tmp_path / 'newer.db', 'ffffffffffff')}", folder="/")
    with pytest.raises(Refused, match="newer than"):
        check_server(host, newer, Config(), tables=False)
    good = Server(backend=f"sqlite:///{database(tmp_path / 'good.db')}", folder="/")
    with pytest.raises(Refused, match="runs of both cannot become one"):
        check_server(host, good, Config(), tables=True)
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at as one\n" * 40)
    with pytest.raises(OnPremError, match="cannot be read"):
        tables(host, str(tmp_path / "text.db"))
    elsewhere = Server(backend=good.backend, folder="/", accounts="own.ini")
    with pytest.raises(Refused, match="no database_uri"):
        check_server(FakeHost(), Server(backend="postgresql:///mlflow", accounts=elsewhere.accounts, folder="/srv"), Config(), tables=True)


def test_folders_of_artifacts_and_how_addresses_name_them() -> None:
    served, root = folders(Server(destination="./served", root="/srv/runs/", folder="/home/ann"))
    assert (served.path, served.spellings, served.prefix) == ("/home/ann/served", ("mlflow-artifacts:",), "")
    assert (root.path, root.prefix) == ("/srv/runs", "local/")
    assert {"/srv/runs", "file:///srv/runs", "file:/srv/runs"} <= set(root.spellings)
    assert [each.path for each in folders(Server(folder="/root"))] == ["/root/mlartifacts", "/root/mlruns"]
    assert folders(Server(destination="s3://mlflow/some/folder", root="s3://mlflow")) == ()
    own = folders(
        Server(destination="./served", root="mlflow-artifacts:/", folder="/srv"), ("file:///data/77", "mlflow-artifacts:/1", "s3://mlflow/2")
    )
    assert [(each.path, each.prefix) for each in own] == [("/srv/served", ""), ("/data/77", "local/data/77/")]
    assert len(folders(Server(root="/srv/runs", folder="/"), ("/srv/runs/1", "file:///srv/runs/2"))) == 2, "they are below the root"
    assert prefix_in_bucket(Server(destination="s3://mlflow/some/folder")) == "some/folder/"
    assert prefix_in_bucket(Server(destination="s3://mlflow")) == ""
    with pytest.raises(Refused, match="in the bucket theirs"):
        check_artifacts(FakeHost(), Server(destination="s3://theirs"), Config())


def test_our_administrator_has_another_name_beside_one_that_comes_along() -> None:
    def named(*names: str) -> str:
        found = adoption.Adoption("", (), False, (), (), Ours(5000, "mlflow"), sources=Sources("", "x", names))
        return adoption.administrator(found, "admin")

    assert [named(), named("bob"), named("admin", "bob"), named("admin", "onprem-admin")] == ["admin", "admin", "onprem-admin", "onprem-admin-2"]


class Rows:
    """One table with one column of addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    def query(self, database: str, statement: str, identifiers: Any = None, literals: Any = None) -> list[list[Any]]:
        assert database == "mlflow"
        if statement.startswith("SELECT to_regclass"):
            return [["experiments" if literals["table"] == "experiments" else None]]
        old, new = literals["old"], literals["new"]
        mine = [each for each in self.addresses if (each == old or each.startswith(f"{old}/")) and not each.startswith(new)]
        if statement.startswith("UPDATE"):
            self.addresses = [new + each[len(old) :].lstrip("/") if each in mine else each for each in self.addresses]
            return []
        return [[len(mine)]]


def test_addresses_follow_and_a_second_run_finds_none() -> None:
    sql = Rows("file:///srv/runs/1", "/srv/runs/2", "s3://mlflow/3", "mlflow-artifacts:/4", "s3://mlflow2/5", "/srv/runs2/6")
    roots = (("s3://mlflow", "mlflow-artifacts:/"), ("/srv/runs", "mlflow-artifacts:/local/"), ("file:///srv/runs", "mlflow-artifacts:/local/"))
    resource = ProxiedRoots(sql, "mlflow", roots)
    assert resource.observe(FakeHost()) == RootsState(3)
    resource.apply(FakeHost(), RootsState(3))
    assert resource.observe(FakeHost()) == resource.want
    assert sql.addresses == [
        "mlflow-artifacts:/local/1", "mlflow-artifacts:/local/2", "mlflow-artifacts:/3", "mlflow-artifacts:/4", "s3://mlflow2/5", "/srv/runs2/6",
    ]  # fmt: skip
    below = Rows("mlflow-artifacts:/4/x")
    again = ProxiedRoots(below, "mlflow", (("mlflow-artifacts:", "mlflow-artifacts:/some/folder/"),))
    for _ in range(2):
        again.apply(FakeHost(), None)
    assert below.addresses == ["mlflow-artifacts:/some/folder/4/x"]


class Sent:
    """A store that keeps what it is brought."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def bring(self, bucket: str, name: str, file: Path) -> None:
        self.objects[f"{bucket}/{name}"] = file.read_bytes()


def test_every_file_of_a_folder_is_brought_once_where_an_address_names_it(tmp_path: Path) -> None:
    host = FakeHost(backing=tmp_path)
    host.put(NOTE, json.dumps({"folder": "/x", "done": False}))
    for name in ("0/run/artifacts/größe 1.bin", "0/run/artifacts/deep/er/x", ".trash/1/gone"):
        path = tmp_path / "srv/runs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)

    def folder(sql: Any, store: Any) -> ArtifactFolder:
        return ArtifactFolder(store, sql, "mlflow", "mlflow", "/srv/runs", ("/srv/runs",), "local/", ArtifactFolderState("mlflow"))

    nobody, store = folder(Rows("s3://mlflow/1"), Sent()), Sent()
    nobody.apply(host, None)
    assert nobody.observe(host) == nobody.want
    host.put(NOTE, json.dumps({"folder": "/x", "done": False}))
    resource = folder(Rows("/srv/runs/0"), store)
    assert resource.observe(host) is None
    resource.apply(host, None)
    assert resource.observe(host) == resource.want
    assert sorted(store.objects) == ["mlflow/local/0/run/artifacts/deep/er/x", "mlflow/local/0/run/artifacts/größe 1.bin"]
    (tmp_path / "srv/runs/link").symlink_to(tmp_path)
    with pytest.raises(OnPremError, match="a link to another folder"):
        resource.apply(host, None)


class Client:
    """The SDK's client over a dictionary; `damages` is what it does to what is sent."""

    def __init__(self, damages: bytes = b"") -> None:
        self.objects: dict[str, bytes] = {}
        self.damages, self.sent = damages, 0

    def fput_object(self, bucket: str, name: str, path: str) -> None:
        self.sent += 1
        self.objects[name] = Path(path).read_bytes() + self.damages

    def get_object(self, bucket: str, name: str) -> Any:
        from minio.error import S3Error

        if name not in self.objects:
            raise S3Error(response=None, code="NoSuchKey", message="", resource="", request_id="", host_id="")  # type: ignore[arg-type]
        content = io.BytesIO(self.objects[name])

        class Answer:
            def stream(self, amount: int) -> Iterator[bytes]:
                yield from iter(lambda: content.read(amount), b"")

            def close(self) -> None: ...
            def release_conn(self) -> None: ...

        return Answer()


def test_a_file_is_sent_once_and_compared(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x" * 3_000_000)
    client: Any = Client()
    for _ in range(2):
        bring(client, "mlflow", "f", file)
    assert client.sent == 1
    client.objects["f"] = b"x" * 2_999_999
    bring(client, "mlflow", "f", file)
    assert (client.sent, client.objects["f"] == file.read_bytes()) == (2, True)
    with pytest.raises(OnPremError, match="arrived in the object store with other bytes"):
        bring(Client(b"!"), "mlflow", "f", file)  # type: ignore[arg-type]


def test_a_copy_of_the_file_goes_through_mlflows_own_environment_and_is_gone_afterwards(tmp_path: Path) -> None:
    host = FakeHost(backing=tmp_path)
    host.put(NOTE, json.dumps({"folder": "/x", "warnings": ["first"], "done": False}))
    (tmp_path / "srv").mkdir()
    database(tmp_path / "srv/basic_auth.db", names=("admin",))
    host.put("/srv/basic_auth.db", (tmp_path / "srv/basic_auth.db").read_bytes().decode("latin-1"))
    seen: list[tuple[str, ...]] = []

    def python(call: Call) -> Result:
        seen.append(call.argv)
        assert call.user == "mlflow"
        return Result(0, 'a line of a log\n{"rows": {"users": 1}, "left": {"metrics": 2}, "locked": ["admin"]}\n', "")

    host.programs["python"] = python
    host.put("/env/bin/python", "an interpreter", 0o755)
    resource = Transplant("accounts", "/srv/basic_auth.db", "/env/bin/python", (), TransplantState("/srv/basic_auth.db"))
    assert resource.observe(host) is None
    resource.apply(host, None)
    assert resource.observe(host) == resource.want
    assert seen == [("/env/bin/python", "-m", "mlflow_onprem_server.transplant", "accounts", f"{FOLDER}/accounts.db")]
    first, locked, left = json.loads(host.read(NOTE) or b"")["warnings"]
    assert (first, "user passwd admin" in locked, "2 of metrics" in left) == ("first", True, True)
    assert host.stat(FOLDER) is None
