"""Downloads through a real MLflow, from a store that can be made to fail: every route, parts, tags, errors, and what is left behind."""

from __future__ import annotations

import ast
import base64
import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from .conftest import ADMIN, Answer, Service, make_service
from .fake_store import DATE, FakeStore, fake_store

pytestmark = pytest.mark.mlflow

JSON = {"Content-Type": "application/json"}
DIRECT = "/api/2.0/mlflow-artifacts/artifacts/"
CONTENT = bytes(range(256)) * 8192  # 2 MiB: several reads
LONG = "あ" * 85
#: Everything in MLflow's server that fetches a file for a client, which `handover.StreamsFromS3` answers. A new one is to be looked at.
FETCHES = {
    "get_local_path": {"download_artifact", "_send_artifact", "_download_artifact", "get_trace_artifact_handler"},
    "download_artifacts": {"download_artifact", "_send_artifact", "_download_artifact"},
    "download_trace_attachment_to_file": {"get_trace_artifact_handler"},
    "download_trace_data_to_file": {"get_trace_artifact_handler"},
}


@pytest.fixture(scope="module")
def store() -> Iterator[FakeStore]:
    with fake_store() as store:
        yield store


@pytest.fixture(autouse=True)
def calm(store: FakeStore) -> None:
    """No failure left over from the test before."""
    store.asked.clear()
    store.breaks.clear()
    store.refuses.clear()
    store.cut.clear()


@pytest.fixture(scope="module")
def served(mlflow_python: Path, installed: Path, store: FakeStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose store is the fake one."""
    made = make_service(mlflow_python, installed, tmp_path_factory.mktemp("downloads"))
    (made.folder / "tmp").mkdir()
    made.environ |= {
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{store.port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "TMPDIR": str(made.folder / "tmp"),
    }
    made.start()
    yield made
    made.stop()


def post(served: Service, path: str, **values: object) -> dict[str, dict[str, str]]:
    answer = served.call("POST", f"/api/2.0/mlflow/{path}", ADMIN, JSON, json.dumps(values).encode())
    assert answer.status == 200, answer.body
    found: dict[str, dict[str, str]] = json.loads(answer.body)
    return found


@pytest.fixture(scope="module")
def run(served: Service, store: FakeStore) -> str:
    """A run with two artifacts; its id."""
    run_id: str = post(served, "runs/create", experiment_id="0")["run"]["info"]["run_id"]  # type: ignore[index]
    store.objects[f"0/{run_id}/artifacts/model/table.csv.gz"] = CONTENT
    store.objects[f"0/{run_id}/artifacts/{LONG}"] = b"long"
    return run_id


@pytest.fixture(scope="module")
def routes(served: Service, store: FakeStore, run: str) -> dict[str, str]:
    """Each way to the content of one file."""
    key = f"0/{run}/artifacts/model/table.csv.gz"
    post(served, "registered-models/create", name="m")
    post(served, "model-versions/create", name="m", source=f"mlflow-artifacts:/0/{run}/artifacts/model", run_id=run)
    model = post(served, "logged-models", experiment_id="0", name="l")["model"]["info"]["model_id"]  # type: ignore[index]
    store.objects[f"0/models/{model}/artifacts/table.csv.gz"] = CONTENT
    return {
        "api": f"{DIRECT}{key}",
        "ajax": f"/ajax-api/2.0/mlflow-artifacts/artifacts/{key}",
        "run": f"/get-artifact?{urlencode({'run_id': run, 'path': 'model/table.csv.gz'})}",
        "version": "/model-versions/get-artifact?name=m&version=1&path=table.csv.gz",
        "model": f"/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files?artifact_file_path=table.csv.gz",
    }


WAYS = ("api", "ajax", "run", "version", "model")


def get(served: Service, path: str, **headers: str) -> Answer:
    return served.call("GET", path, ADMIN, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("way", WAYS)
def test_every_route_streams(served: Service, store: FakeStore, routes: dict[str, str], way: str) -> None:
    store.asked.clear()
    answer = get(served, routes[way])
    assert (answer.status, len(answer.body), answer.body == CONTENT) == (200, len(CONTENT), True)
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-disposition"] == "attachment; filename=table.csv.gz"
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == ("text/csv", "nosniff")
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert "content-encoding" not in answer.headers
    assert [method for method, _, _ in store.asked] == ["GET"]
    assert not list((served.folder / "tmp").rglob("*.gz"))


@pytest.mark.parametrize("way", WAYS)
def test_every_route_sends_parts_and_knows_what_the_client_has(served: Service, routes: dict[str, str], way: str) -> None:
    path, size = routes[way], len(CONTENT)
    part = get(served, path, Range="bytes=1000000-1999999")
    assert (part.status, part.body) == (206, CONTENT[1000000:2000000])
    assert (part.headers["content-range"], part.headers["content-length"]) == (f"bytes 1000000-1999999/{size}", "1000000")
    assert get(served, path, Range="bytes=-5").body == CONTENT[-5:]
    outside = get(served, path, Range=f"bytes={size}-")
    assert (outside.status, outside.headers["content-range"], outside.body) == (416, f"bytes */{size}", b"")
    etag = part.headers["etag"]
    assert get(served, path, Range="bytes=0-0", If_Range=etag).status == 206
    assert get(served, path, Range="bytes=0-0", If_Range='"other"').body == CONTENT
    assert get(served, path, If_None_Match=etag).status == 304
    assert get(served, path, If_Modified_Since=DATE).status == 304
    head = served.call("HEAD", path, ADMIN)
    assert (head.status, head.headers["content-length"], head.headers["etag"], head.body) == (200, str(size), etag, b"")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_there_is_a_404_on_every_route(served: Service, store: FakeStore, routes: dict[str, str], way: str) -> None:
    for method in ("GET", "HEAD"):
        answer = served.call(method, routes[way].replace("table.csv.gz", "none.bin"), ADMIN)
        assert answer.status == 404
        assert answer.headers["content-type"] == "application/json"
    assert len(store.asked) == 2


def test_a_folder_or_nothing_fetches_nothing(served: Service, store: FakeStore, run: str) -> None:
    """With an empty path MLflow would fetch everybody's artifacts."""
    for path in (DIRECT, f"{DIRECT}0/{run}/artifacts/model/", "/ajax-api/2.0/mlflow-artifacts/artifacts/", f"{DIRECT}0/{run}/artifacts/./x"):
        assert get(served, path).status in (400, 404), path
    assert store.asked == []
    for path in (f"{DIRECT}0/{run}/artifacts/model", f"/get-artifact?run_id={run}&path=model", f"/get-artifact?run_id={run}&path="):
        answer = get(served, path)
        assert answer.status in (400, 404), path
        assert "message" in json.loads(answer.body)
    assert {method for method, key, _ in store.asked if key} <= {"GET"}
    assert all(key for _, key, _ in store.asked)  # no listing


def test_a_name_of_255_bytes_and_a_packed_one(served: Service, store: FakeStore, run: str) -> None:
    answer = get(served, f"{DIRECT}0/{run}/artifacts/{quote(LONG)}")
    assert (answer.status, answer.body) == (200, b"long")
    for name in ("a.csv.gz", "a.tgz", "a.svgz", "a.json.gz", "a.tar.gz", "a.bz2", "a.br", "a.Z", "a.tar.xz"):
        key = f"0/{run}/artifacts/{name}"
        assert served.call("PUT", f"{DIRECT}{key}", ADMIN, body=b"packed").status == 200
        assert "Content-Encoding" not in store.headers[key], name
        assert served.call("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=x/{name}", ADMIN, body=b"packed").status == 200
        assert "Content-Encoding" not in store.headers[f"0/{run}/artifacts/x/{name}"], name
        # As it was stored before.
        store.headers[key]["Content-Encoding"] = "gzip"
        answer = get(served, f"{DIRECT}{key}")
        assert (answer.status, answer.body, answer.headers.get("content-encoding")) == (200, b"packed", None)


def test_a_store_that_breaks_off_is_asked_for_the_rest(served: Service, store: FakeStore, routes: dict[str, str]) -> None:
    store.breaks += [700_000, 900_000]
    answer = get(served, routes["api"])
    assert answer.body == CONTENT
    assert [asked for _, _, asked in store.asked][:2] == ["", "bytes=700000-2097151"]


def test_a_store_that_fails_says_so_or_breaks_the_connection(served: Service, store: FakeStore, routes: dict[str, str]) -> None:
    """Before the first byte with a status, after it by an end that no client takes for the file's."""
    store.refuses += [(403, "AccessDenied")]
    refused = get(served, routes["api"])
    assert refused.status == 500
    assert json.loads(refused.body)["error_code"] == "INTERNAL_ERROR"
    assert b"SELECT" not in refused.body
    store.breaks += [1_000_000, 0, 0, 0, 0, 0]
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        get(served, routes["run"])
    assert "a download ended early" in served.log
    assert "Traceback" not in served.log
    store.breaks.clear()
    assert get(served, routes["run"]).body == CONTENT


def test_an_object_that_is_replaced_meanwhile_is_not_glued_to_the_old_one(served: Service, store: FakeStore, run: str) -> None:
    key = f"0/{run}/artifacts/changing.bin"
    store.objects[key] = CONTENT
    store.breaks += [600_000]
    store.replaced_at_break[key] = b"other" * 500_000
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        get(served, f"{DIRECT}{key}")
    assert "PreconditionFailed" in served.log
    assert get(served, f"{DIRECT}{key}").body == b"other" * 500_000


def request(served: Service, path: str) -> bytes:
    account = base64.b64encode(ADMIN.encode()).decode()
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {account}\r\n\r\n".encode()


def test_a_client_that_goes_leaves_nothing(served: Service, store: FakeStore, run: str) -> None:
    store.objects["big"] = os.urandom(1 << 20) * 64
    assert served.process is not None
    with socket.create_connection(("127.0.0.1", served.port), 30) as client:
        client.sendall(request(served, f"{DIRECT}big"))
        client.recv(1000)
    assert store.cut.wait(30)  # the store's connection is given up as well
    assert not list((served.folder / "tmp").rglob("*big*"))


def test_head_is_allowed_to_those_who_may_get(served: Service, run: str) -> None:
    """MLflow's own checks know no HEAD."""
    alone = post(served, "experiments/create", name="hidden")["experiment_id"]
    account = "eve:a-long-enough-password"
    user = {"username": "eve", "password": "a-long-enough-password"}
    assert served.call("POST", "/api/2.0/mlflow/users/create", ADMIN, JSON, json.dumps(user).encode()).status == 200
    grant = {"username": "eve", "resource_type": "experiment", "resource_id": alone, "permission": "DENY"}
    granted = served.call("POST", "/api/3.0/mlflow/users/permissions/grant", ADMIN, JSON, json.dumps(grant).encode())
    assert granted.status == 200, granted.body
    for method in ("GET", "HEAD"):
        assert served.call(method, f"{DIRECT}{alone}/run/artifacts/x", account).status == 403
        assert served.call(method, f"{DIRECT}0/{run}/artifacts/model/table.csv.gz", account).status == 200
        assert served.call(method, f"{DIRECT}0/{run}/artifacts/model/table.csv.gz").status == 401


def test_nothing_else_in_mlflow_fetches_for_a_client(mlflow_python: Path) -> None:
    """By its source, so that a new version with a new way shows up here and is made to stream too."""
    server = next((mlflow_python.parent.parent / "lib").glob("python3*/site-packages/mlflow/server"))
    found: dict[str, set[str]] = {}
    for module in server.rglob("*.py"):
        for function in ast.walk(ast.parse(module.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                names = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
                for name in names & {*FETCHES, "_download_file", "download_trace_attachment"}:
                    found.setdefault(name, set()).add(function.name)
    assert found == FETCHES
