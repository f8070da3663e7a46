"""A store that lists less than it has: its own disk, the backup's walk over it, what a restore has to remove, what doctor and verify say."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from minio.error import S3Error

from mlflow_onprem.backup import known_names, objects, render, verify
from mlflow_onprem.backup.bucket import Bucket
from mlflow_onprem.backup.objects import Entry, Tally
from mlflow_onprem.clients import store_disk
from mlflow_onprem.doctor import objects as hidden
from mlflow_onprem.settings.config import Config

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
RUN = "1/0123456789abcdef0123456789abcdef/artifacts"
DATA = "12345678-1234-1234-1234-123456789abc"
KEYS = ["a", "a-b", "a/b", "a/c/d", "a0", "b/", "b/c", "c", f"c/{DATA}", f"c/{DATA}2/x", "d", "m/xl.meta", "m/xl.meta2/part.1", "é/ü"]


def disk(tmp_path: Path, keys: Iterable[str], large: Iterable[str] = ()) -> Path:
    """A store's data folder as MinIO makes it."""
    (tmp_path / ".minio.sys").mkdir(parents=True)
    (tmp_path / ".minio.sys/format.json").write_text('{"version":"1","format":"xl-single"}')
    (tmp_path / "mlflow").mkdir()
    for key in keys:
        folder = tmp_path / "mlflow" / (f"{key[:-1]}__XLDIR__" if key.endswith("/") else key)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "xl.meta").touch()
    for key in large:
        (tmp_path / "mlflow" / key / DATA).mkdir()
        (tmp_path / "mlflow" / key / DATA / "part.1").touch()
    return tmp_path


class Store:
    """Lists as MinIO does: nothing below an object's name."""

    def __init__(self, keys: Iterable[str], when: datetime = NOW) -> None:
        self.keys, self.when = sorted(keys), when
        self.removed: list[str] = []

    def list_objects(self, _bucket: str, prefix: str = "", recursive: bool = False) -> Any:
        for key in self.keys:
            if key.startswith(prefix) and not any(key.startswith(f"{other}/") and key != f"{other}/" for other in self.keys):
                yield self.stat_object("", key)

    def stat_object(self, _bucket: str, key: str) -> Any:
        if key not in self.keys:
            raise S3Error(cast(Any, None), "NoSuchKey", "", "", "", "")
        return SimpleNamespace(object_name=key, etag="e", size=1, last_modified=self.when, version_id=None)

    def put_object(self, _bucket: str, key: str, *_: object) -> None:
        self.keys = sorted({*self.keys, key})

    def remove_object(self, _bucket: str, key: str) -> None:
        self.keys.remove(key)
        self.removed.append(key)


def test_the_disk_has_every_key_in_the_order_of_a_listing(tmp_path: Path) -> None:
    folder = store_disk.bucket_folder(disk(tmp_path, KEYS, large=["a", "a/b", "d"]), "mlflow")
    assert folder is not None
    assert list(store_disk.keys(folder)) == sorted(KEYS) == KEYS
    assert list(store_disk.overlaps(KEYS)) == [("a", "a/b"), ("a", "a/c/d"), ("c", f"c/{DATA}"), ("c", f"c/{DATA}2/x")]


@pytest.mark.parametrize("kind", ["fs", "", None])
def test_a_disk_of_another_kind_is_not_guessed_at(tmp_path: Path, kind: str | None) -> None:
    data = disk(tmp_path, KEYS)
    if kind is None:
        (data / ".minio.sys/format.json").unlink()
    else:
        (data / ".minio.sys/format.json").write_text(f'{{"format":"{kind}"}}')
    assert store_disk.bucket_folder(data, "mlflow") is None
    assert store_disk.bucket_folder(data, "other") is None


def test_a_deep_tree_is_walked(tmp_path: Path) -> None:
    key = "k/" * 500 + "k"
    assert list(store_disk.keys(disk(tmp_path, [key]) / "mlflow")) == [key]


def test_a_backup_has_what_the_store_does_not_list(tmp_path: Path) -> None:
    store = Store(KEYS)
    data = disk(tmp_path, [*KEYS, "zombie"]) / "mlflow"  # the last one's newest version is a mark of deletion
    assert len(list(Bucket(cast(Any, store), "mlflow").list())) == len(KEYS) - 4
    bucket = Bucket(cast(Any, store), "mlflow", data)
    assert [each.key for each in bucket.list()] == KEYS
    tally = Tally()
    list(objects.sweep(bucket.list(), [], lambda each: each, tally, keep_missing=False))
    assert (tally.count, tally.beside, tally.hidden[0]) == (len(KEYS), 4, ("a", "a/b"))


def test_elsewhere_the_database_names_what_the_store_hides() -> None:
    store = Store(["model", "model/MLmodel", "model/weights", "other/MLmodel"])
    bucket = Bucket(cast(Any, store), "mlflow", names=lambda: ["gone/MLmodel", "model/MLmodel", "model/gone", "other/MLmodel"])
    assert [each.key for each in bucket.list()] == ["model", "model/MLmodel", "other/MLmodel"]


def test_a_store_is_asked_whether_it_hides_and_nothing_stays() -> None:
    store = Store(["x"])
    assert Bucket(cast(Any, store), "mlflow").hides()
    store.list_objects = lambda *_, prefix, recursive: (SimpleNamespace(object_name=key) for key in store.keys if key.startswith(prefix))  # type: ignore[method-assign]  # one that lists all
    assert not Bucket(cast(Any, store), "mlflow").hides()
    assert store.keys == ["x"]


def test_names_in_the_database() -> None:
    rows: dict[str, list[tuple[str | None, ...]]] = {
        "logged_models": [(f"mlflow-artifacts:/{RUN}/model/MLmodel",), (None,)],
        "storage_location": [("s3://mlflow/2/models/m-1/artifacts/MLmodel",), ("s3://other/2/MLmodel",)],
        "source": [("models:/m-1/MLmodel",), ("runs:/1/MLmodel",)],
        "trace_tags": [("http://h/api/2.0/mlflow-artifacts/artifacts/1/traces/tr-1/artifacts/traces.json",)],
        "artifact_uri": [
            ("s3://mlflow/1/r/artifacts", "mlflow.loggedArtifacts", '[{"path": "t.json", "type": "table"}]'),
            ("s3://mlflow/1/r/artifacts", "mlflow.log-model.history", '[{"artifact_path": "m"}, 3, {"artifact_path": 4}]'),
            ("s3://mlflow/1/r/artifacts", "mlflow.log-model.history", "no json"),
        ],
    }
    assert known_names.keys(lambda statement: next(found for word, found in rows.items() if word in statement), "mlflow") == [
        f"{RUN}/model/MLmodel", "1/r/artifacts/m/MLmodel", "1/r/artifacts/t.json", "1/traces/tr-1/artifacts/traces.json",
        "2/models/m-1/artifacts/MLmodel",
    ]  # fmt: skip


def test_a_restore_removes_only_what_would_hide() -> None:
    def entries(*keys: str) -> list[Entry]:
        return [Entry(key, "e", 1, "m") for key in sorted(keys)]

    wanted = entries("a/b", "a/c", "d", "e", "e/f")
    there = entries("a", "a-b", "d/x", "d/y/z", "e", "g", "g/h")
    assert sorted(set(objects.strangers(objects.pair(wanted, there)))) == ["a", "d/x", "d/y/z"]


def test_an_old_backup_is_called_incomplete_where_its_bucket_is_at_hand(tmp_path: Path) -> None:
    index = tmp_path / "index"
    objects.write_index(index, [Entry("config", "e", 1, "m", sha256="s")])
    data = disk(tmp_path / "data", ["config", "config/train.yaml"]) / "mlflow"
    made = cast(Any, SimpleNamespace(created=NOW))
    older = Bucket(cast(Any, Store(["config", "config/train.yaml"], NOW - timedelta(days=1))), "mlflow", data)
    assert verify.lacks(older, made, index) == ["config/train.yaml"]
    newer = Bucket(cast(Any, Store(["config", "config/train.yaml"], NOW + timedelta(days=1))), "mlflow", data)
    assert verify.lacks(newer, made, index) == []
    found = verify.Verified("id", "/b", 1, 1, 1, (), 1.0, lacking=("config/train.yaml",), compared=True)
    assert "incomplete" in render.verified_text(found)
    assert "every checksum is right" not in render.verified_text(found)
    assert render.verified_json(found)["complete"] is False


@pytest.mark.parametrize(("against", "compared", "complete"), [("disk", False, True), ("", True, True), ("", False, None), ("names", False, None)])
def test_what_cannot_be_known_is_said(against: str, compared: bool, complete: bool | None) -> None:
    unsure = verify._unsure(cast(Any, SimpleNamespace(objects=SimpleNamespace(against=against))), compared=compared)
    found = verify.Verified("id", "/b", 1, 1, 1, (), 1.0, compared=compared, unsure=unsure)
    assert render.verified_json(found)["complete"] is complete
    assert ("whether it is complete is not known" in render.verified_text(found)) is (complete is None)


def test_doctor_names_the_run_the_path_and_the_way_out() -> None:
    finding = hidden.judge(Config(), "http://server:5000", [f"{RUN}/config", f"{RUN}/config/train.yaml", "x"])
    assert finding.level == "error"
    assert "run 0123456789abcdef0123456789abcdef of experiment 1: config/train.yaml, hidden by the file config" in finding.what
    assert "mlflow artifacts download -r 0123456789abcdef0123456789abcdef -a 'config'" in finding.fix
    assert f"-X DELETE 'http://server:5000/api/2.0/mlflow-artifacts/artifacts/{RUN}/config'" in finding.fix
    many = hidden.judge(Config(), "http://server:5000", ["c", *(f"c/{number:03}" for number in range(50))])
    assert "50 files" in many.what
    assert "and 40 more" in many.what
    assert hidden.judge(Config(), "http://server:5000", ["a", "a-b"]).level == "ok"
    late = hidden.judge(Config(), "http://server:5000", ["a", "a/b"], patience=-1)
    assert "looked at the first 0 objects" in late.what
