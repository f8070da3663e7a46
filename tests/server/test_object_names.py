"""Names that come back and names that do not, locks on them, and the check on the way to the store, with a store of dictionaries."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from mlflow_onprem_server import object_names, uploads
from mlflow_onprem_server.path_locks import PathLocks

RUN = "1/0123456789abcdef/artifacts"


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "config/train.yaml",
        "a b ",
        "caf\u00e9",
        "cafe\u0301",
        "あ" * 85,
        "🎉",
        "a\\b",
        "a+b&c",
        "xl.meta",
        "part.1",
        "...",
        "100%",
        "a:b",
        "x;y",
        "a?b",
        "k/" * 400 + "k",
    ],
)
def test_names_that_come_back(name: str) -> None:
    assert object_names.unfit(f"{RUN}/{name}") is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "slash at its start or end"),
        ("a//b", "two in a row"),
        ("a/", "slash at its start or end"),
        ("./a", "a part that is '.'"),
        ("a/../b", "a part that is '..'"),
        ("あ" * 86, "258 bytes"),
        ("s" * 256 + "/x", "256 bytes"),
        ("k/" * 500 + "k" * 30, "takes 1024"),
        ("x__XLDIR__", "__XLDIR__"),
        ("x__XLDIR__/f", "__XLDIR__"),
        ("a\nb", "control character"),
        ("a\x00b", "control character"),
        ("a%0ab", "control character"),
        ("a\x7f", "control character"),
        ("\ud800", "character that is none"),
        ("a#b", "takes for the end of a name"),
        (" start", "read as 'start'"),
        ("Run:1.txt", "read as 'run:1.txt'"),
        ("ends;", "read as 'ends'"),
        ("ends?/x", "read as 'ends'"),
        ("a%2Fb", "read as 'a/b'"),
        ("file:x", "a file of its own"),
    ],
)
def test_names_that_would_not(name: str, why: str) -> None:
    reason = object_names.unfit(f"{RUN}/{name}")
    assert reason is not None
    assert why in reason
    object_names.unfit_message(f"{RUN}/{name}", reason).encode()  # can be sent


def test_messages_name_the_file_as_its_user_knows_it() -> None:
    message = object_names.below_file(f"{RUN}/config/train.yaml", f"{RUN}/config")
    assert "'config/train.yaml'" in message
    assert RUN not in message
    assert len(object_names.beside_folder(f"{RUN}/{'x/' * 500}y", f"{RUN}/z")) < 700


def test_writers_wait_only_for_whom_they_would_hide(tmp_path: Path) -> None:
    locks = PathLocks(str(tmp_path))
    others = PathLocks(str(tmp_path))  # another worker's
    order: list[str] = []
    inside = threading.Event()

    def second(name: str) -> None:
        with others.hold(name, object_names.ancestors(name)):
            order.append(name)
            inside.set()

    with locks.hold("r/config/a", object_names.ancestors("r/config/a")):
        free = threading.Thread(target=second, args=("r/config/b",))
        free.start()
        assert inside.wait(10)
        waits = threading.Thread(target=second, args=("r/config",))
        waits.start()
        waits.join(0.3)
        assert waits.is_alive()
        order.append("first is done")
    waits.join(10)
    assert order == ["r/config/b", "first is done", "r/config"]


def test_a_write_is_known_to_every_worker(tmp_path: Path) -> None:
    ours, theirs = PathLocks(str(tmp_path)), PathLocks(str(tmp_path))
    before, other = ours.generation("r/config"), ours.generation("r/other")
    theirs.written("r/config")
    assert ours.generation("r/config") != before
    assert ours.generation("r/other") == other


def _put(path: str, body: list[bytes], status: int = 200) -> tuple[int, list[bytes], bool]:
    """Send a request in pieces; the status, what the app read, and whether all was read before the answer."""
    left, read, answered = list(body), [], []

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if status == 200:
            while (message := await receive()).get("more_body"):
                read.append(message["body"])
        await send({"type": "http.response.start", "status": status})

    async def receive() -> MutableMapping[str, Any]:
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    async def send(message: MutableMapping[str, Any]) -> None:
        answered.append((message, not left))

    asyncio.run(uploads.Uploads(app)({"type": "http", "method": "PUT", "path": path}, receive, send))
    return int(answered[0][0]["status"]), read, answered[0][1]


def test_a_client_that_still_sends_hears_the_refusal() -> None:
    route = "/api/2.0/mlflow-artifacts/artifacts/"
    assert _put(f"{route}{RUN}/a//b", [b"1", b"2", b"3"]) == (400, [], True)
    assert _put(f"/ajax-api/2.0/mlflow-artifacts/artifacts/{RUN}/a\nb", [b"1", b"2"]) == (400, [], True)
    assert _put("/api/2.0/other", [b"1", b"2"], status=500) == (500, [], False)
