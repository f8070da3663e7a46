"""Upgrade and gc without a host: what may be changed, what the journal keeps, what is refused, where artifacts lie."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, ClassVar

import pytest
from mlflow_onprem_server.purge_bucket import Bucket, StillThere

from mlflow_onprem.core.errors import ConfigError, OnPremError, Refused
from mlflow_onprem.core.resource import Mode, Text
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.gc import command as garbage
from mlflow_onprem.resources.files import BEGIN, END, BlockState, File, FileState, MarkedBlock, Symlink, SymlinkState
from mlflow_onprem.resources.schema import NEWEST, Schema, SchemaState
from mlflow_onprem.resources.services import STAMPS
from mlflow_onprem.settings.config import Config
from mlflow_onprem.stack.mlflow_release import lock, schema_of
from mlflow_onprem.upgrade import check, postgres_guide
from mlflow_onprem.upgrade import state as journals
from mlflow_onprem.upgrade.state import CHANGING, Journal
from tests.fake_machine import CREDENTIALS, FACTS, Machine
from tests.fakes import FakeHost


def schema(**changes: Any) -> Schema:
    want = SchemaState("cc3", "a1", True)
    made = Schema(sql=None, tracking_database="mlflow", auth_database="auth", administrator="admin", python="/p", environment=(), want=want)  # type: ignore[arg-type]
    return dataclasses.replace(made, **{"steps": ("aa1", "bb2", "cc3"), **changes})


def test_existing_tables_are_migrated_by_leave_only() -> None:
    older = SchemaState("aa1", "a1", True)
    with pytest.raises(Refused, match="older MLflow") as refused:
        schema().check_may_change(older)
    assert "sudo mlflow-onprem upgrade" in refused.value.hint
    schema(may_migrate=True).check_may_change(older)
    assert schema().migrations_ahead("aa1") == 2


def test_new_tables_and_a_new_accounts_database_need_no_leave() -> None:
    schema().check_may_change(None)
    schema().check_may_change(SchemaState("cc3", None, False))
    schema().check_may_change(SchemaState("cc3", "a1", False))


def test_tables_of_a_later_mlflow_are_refused_with_and_without_leave() -> None:
    later = SchemaState("dd4", "a1", True)
    for each in (schema(), schema(may_migrate=True)):
        with pytest.raises(Refused, match="a later one made them"):
            each.check_may_change(later)
    assert schema().migrations_ahead("dd4") is None


def test_the_pinned_version_knows_its_way_and_a_lock_of_the_hosts_own_asks_its_mlflow() -> None:
    wanted, steps = schema_of("3.17.2", accounts=True)
    assert steps[-1] == wanted.tracking
    assert len(set(steps)) == len(steps) > 60
    assert schema_of("3.14.0", accounts=False) == (SchemaState(NEWEST, None, True), ())
    assert lock("3.14.0", (("3.14.0", "text"),)) == "text"
    with pytest.raises(ConfigError, match=r"3\.14\.0 is not one this release carries"):
        lock("3.14.0")


def test_leave_is_given_to_the_tables_alone(tmp_path: Any) -> None:
    machine = Machine(tmp_path)
    stack, allowed = (machine.stack(Config(), CREDENTIALS, may_migrate=may) for may in (False, True))
    assert [each.name for each in stack] == [each.name for each in allowed]
    assert [each.name for each in stack if getattr(each, "may_migrate", False)] == []
    assert [type(each) for each in allowed if getattr(each, "may_migrate", False)] == [Schema]


def test_what_is_going_to_change_comes_back_as_it_was(tmp_path: Any) -> None:
    host = FakeHost()
    host.put("/etc/a", "old\n", 0o640)
    host.put("/etc/s", "secret\n", 0o600)
    host.put("/etc/b", f"{BEGIN}\nblock\n{END}\nrest\n")
    host.symlink("/opt/current", "one")
    wants: tuple[Any, ...] = (
        File("/etc/a", FileState(Text("new\n"), Mode(0o600), "root", "root")),
        File("/etc/s", FileState(Secret("other\n"), Mode(0o600), "root", "root")),
        File("/etc/new", FileState(Text("made\n"), Mode(0o644), "root", "root")),
        MarkedBlock("/etc/b", BlockState(Text("another\n"))),
        Symlink("/opt/current", SymlinkState("two")),
    )
    packed = json.loads(json.dumps([journals._pack(each, each.observe(host)) for each in wants]))
    for each in wants:
        each.apply(host, each.observe(host))
    for entry in packed:
        back = journals._unpack(entry, None)  # type: ignore[arg-type]
        have = back.observe(host)
        assert have != back.want
        back.apply(host, have)
    assert (host.read("/etc/a"), host.read("/etc/s"), host.read("/etc/new")) == (b"old\n", b"secret\n", None)
    assert host.read("/etc/b") == f"{BEGIN}\nblock\n{END}\nrest\n".encode()
    assert host.readlink("/opt/current") == "one"
    found = host.stat("/etc/a")
    assert found is not None
    assert found.mode == 0o640


def test_the_journal_is_for_root_alone_and_a_damaged_one_is_said() -> None:
    host = FakeHost()
    assert journals.read(host) is None
    host.mkdir("/var/lib/mlflow-onprem", mode=0o755, owner="root", group="root")
    made = Journal(CHANGING, "3.16.1", "3.17.2", "id", 1.5, ("mlflow", "mlflow_auth"), ({"kind": "symlink", "path": "/x", "target": "y"},))
    journals.write(host, made)
    assert journals.read(host) == made
    found = host.stat(journals.PATH)
    assert found is not None
    assert found.mode == 0o600
    host.put(journals.PATH, "{}", 0o600)
    with pytest.raises(OnPremError, match="damaged"):
        journals.read(host)


def test_a_service_comes_back_on_what_its_stamp_says() -> None:
    host = FakeHost()
    host.put(f"{STAMPS}/mlflow.service", '{"inputs": "abc", "rereads": "def"}')
    service: Any = type("S", (), {"unit": "mlflow.service", "boot_unit": "", "restarts": True})
    packed = journals._pack_service(host, service, True)
    back = journals._unpack(packed, None)  # type: ignore[arg-type]
    assert (back.want.inputs, back.want.rereads, back.want.active) == ("abc", "def", True)
    assert journals._unpack(journals._pack_service(host, service, False), None).want is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "seconds"), [("30d", 2592000), ("12h", 43200), ("2d12h", 216000), ("90s", 90), ("0m", 0)])
def test_lengths_of_time(text: str, seconds: int) -> None:
    assert garbage.seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "1.5d", "-3d", "30d ago"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(ConfigError, match="no length of time"):
        garbage.seconds_of(text)


def test_versions_compare_as_numbers() -> None:
    assert check.numbers("3.9.10") < check.numbers("3.17.2")


def test_the_guide_for_postgresql_names_both_versions_and_drops_nothing_unseen() -> None:
    plain = postgres_guide.steps(14, 16, there=False)
    assert [command for command, _ in plain if "dropcluster" in command] == ["sudo pg_dropcluster 14 main"]
    assert plain[-1][0] == "sudo pg_dropcluster 14 main"
    assert any(command == "sudo pg_dropcluster --stop 16 main" for command, _ in postgres_guide.steps(14, 16, there=True))
    assert FACTS.postgres_version == 15


class Store:
    """As much of an S3 client as gc uses; `stubborn` keys are not deleted. As in MinIO, an object hides what is below its name."""

    def __init__(self, sizes: dict[str, int], stubborn: frozenset[str] = frozenset()) -> None:
        self.sizes, self.stubborn = sizes, stubborn

    def get_paginator(self, _name: str) -> Store:
        return self

    def paginate(self, Bucket: str, Prefix: str) -> list[dict[str, Any]]:  # noqa: N803  # boto3's names
        found = [{"Key": key, "Size": size} for key, size in self.sizes.items() if key.startswith(Prefix) and not self._hidden(key)]
        return [{"Contents": found[at : at + 2]} for at in range(0, len(found), 2)] or [{}]

    def delete_objects(self, Bucket: str, Delete: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        errors = []
        for each in Delete["Objects"]:
            if each["Key"] in self.stubborn:
                errors.append({"Key": each["Key"], "Code": "AccessDenied"})
            else:
                del self.sizes[each["Key"]]
        return {"Errors": errors}

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        if Key not in self.sizes:
            raise NoSuchKey
        return {"ContentLength": self.sizes[Key]}

    def _hidden(self, key: str) -> bool:
        return any(key.startswith(f"{other}/") for other in self.sizes)


class NoSuchKey(Exception):
    """As boto3 says it."""

    response: ClassVar = {"Error": {"Code": "404"}}


def test_a_run_is_emptied_and_its_neighbour_with_a_longer_name_is_not() -> None:
    store = Store({"1/run/a": 1, "1/run/b": 2, "1/run/c/d": 4, "1/runner/a": 8})
    assert Bucket(store, "mlflow").measure("1/run/") == (3, 7)
    assert Bucket(store, "mlflow").empty("1/run/") == (3, 7)
    assert store.sizes == {"1/runner/a": 8}


def test_what_files_hide_leaves_too() -> None:
    store = Store({"1/run/artifacts": 1, "1/run/artifacts/a": 2, "1/run/artifacts/a/b": 4, "1/run/artifacts/a/b/c/d": 8, "1/run/artifacts2": 16})
    assert Bucket(store, "mlflow").empty("1/run/artifacts/") == (4, 15)
    assert store.sizes == {"1/run/artifacts2": 16}


def test_a_file_in_the_place_of_an_experiment_is_named_and_not_deleted() -> None:
    store = Store({"1": 1, "1/run/artifacts/a": 2})
    with pytest.raises(StillThere, match='a file named "1"'):
        Bucket(store, "mlflow").empty("1/run/artifacts/")
    assert len(store.sizes) == 2


def test_an_object_that_the_store_keeps_is_a_failure() -> None:
    with pytest.raises(StillThere, match="1/run/b"):
        Bucket(Store({"1/run/a": 1, "1/run/b": 2}, frozenset({"1/run/b"})), "mlflow").empty("1/run/")


@pytest.mark.parametrize(
    ("uri", "key"),
    [
        ("mlflow-artifacts:/1/run/artifacts", "1/run/artifacts/"),
        ("mlflow-artifacts://host:5000/1/run/artifacts", "1/run/artifacts/"),
        ("s3://mlflow/1/run/artifacts", "1/run/artifacts/"),
        ("http://host:5000/api/2.0/mlflow-artifacts/artifacts/1/run", "1/run/"),
        ("s3://another/1/run/artifacts", None),
        ("file:///etc", None),
        ("mlflow-artifacts:/", None),
        ("", None),
    ],
)
def test_where_artifacts_lie(uri: str, key: str | None) -> None:
    assert Bucket(None, "mlflow").key(uri) == key
