"""Downloads against a real server on loopback: what arrives is checked, what does not leaves nothing behind."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.system import download

CONTENT = b"\x7fELF" + bytes(range(256)) * 12000  # more than two chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><title>Log in to the proxy</title>"


class Mirror(BaseHTTPRequestHandler):
    """Each path is one way a mirror can behave."""

    asked: list[str] = []  # noqa: RUF012  # the server makes an instance a request

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/good":
            self._send(200, CONTENT, "application/octet-stream")
        elif self.path == "/page":
            self._send(200, PAGE, "text/html; charset=utf-8")
        elif self.path == "/disguised":
            self._send(200, b"\n" + PAGE, "application/octet-stream")
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: 1 << 20])
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
        else:
            self._send(int(self.path[1:]), PAGE, "text/html")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def mirror() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def fetch(url: str, folder: Path, sha256: str = SHA256) -> list[tuple[int, int]]:
    seen: list[tuple[int, int]] = []
    download.fetch(url, folder / "minio", sha256, lambda done, total: seen.append((done, total)))
    return seen


@pytest.mark.parametrize("path", ["/good", "/moved"])
def test_the_right_file_gets_its_name_and_is_counted_on_the_way(path: str, mirror: str, tmp_path: Path) -> None:
    seen = fetch(mirror + path, tmp_path, SHA256.upper())
    assert (tmp_path / "minio").read_bytes() == CONTENT
    assert [each.name for each in tmp_path.iterdir()] == ["minio"]
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/404", "answers HTTP 404: there is no such file"),
        ("/410", "answers HTTP 410: the file was taken away for good"),
        ("/403", "answers HTTP 403: access is refused"),
        ("/500", "answers HTTP 500: that is not a download"),
        ("/page", "answers with a web page instead of a file"),
        ("/disguised", "answers with a web page instead of a file"),
        ("/short", "ended early"),
    ],
)
def test_anything_else_is_refused_with_what_to_set_and_leaves_nothing(path: str, says: str, mirror: str, tmp_path: Path) -> None:
    with pytest.raises(OnPremError, match=says) as caught:
        fetch(mirror + path, tmp_path)
    assert mirror + path in caught.value.message
    for setting in ("`url`", "`sha256`", 'distribution = "source"', "https_proxy", "REQUESTS_CA_BUNDLE"):
        assert setting in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_another_file_than_the_expected_one_never_gets_its_name(mirror: str, tmp_path: Path) -> None:
    (tmp_path / "minio").write_bytes(b"the last good one")
    with pytest.raises(OnPremError, match=f"its sha256 is {SHA256}, not {'0' * 64}") as caught:
        fetch(f"{mirror}/good", tmp_path, "0" * 64)
    assert "never run it" in caught.value.hint
    assert (tmp_path / "minio").read_bytes() == b"the last good one"
    assert [each.name for each in tmp_path.iterdir()] == ["minio"]


def test_a_closed_port_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(OnPremError, match=r"cannot be reached: .*[Rr]efused") as caught:
            fetch(f"http://127.0.0.1:{port}/minio", tmp_path)
    assert "`url`" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["file://{}", "{}"])
def test_a_file_of_this_host(form: str, tmp_path: Path) -> None:
    source = tmp_path / "store"
    source.write_bytes(CONTENT)
    folder = tmp_path / "into"
    folder.mkdir()
    assert fetch(form.format(source), folder)[-1] == (len(CONTENT), len(CONTENT))
    assert (folder / "minio").read_bytes() == CONTENT


def test_a_file_of_this_host_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OnPremError, match=r"/none cannot be read: No such file or directory"):
        fetch(f"file://{tmp_path}/none", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(mirror: str, tmp_path: Path) -> None:
    with pytest.raises(OnPremError, match="could not be written: No such file or directory"):
        fetch(f"{mirror}/good", tmp_path / "none")


def test_a_probe_asks_for_the_beginning_only_and_refuses_as_a_download_would(mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(download, "_check_magic", lambda _url, chunk: sizes.append(len(chunk)))
    download.probe(f"{mirror}/good")
    assert len(sizes) == 1
    assert sizes[0] <= download.CHUNK
    with pytest.raises(OnPremError, match="HTTP 410"):
        download.probe(f"{mirror}/410")
    monkeypatch.undo()
    with pytest.raises(OnPremError, match="web page"):
        download.probe(f"{mirror}/disguised")


def test_an_unreachable_name_is_tried_three_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    asked = []

    def nobody(url: str, **_: object) -> None:
        asked.append(url)
        raise requests.ConnectionError("made up")

    monkeypatch.setattr(requests, "get", nobody)
    with pytest.raises(OnPremError, match="cannot be reached: made up"):
        fetch("http://mirror.example/minio", tmp_path)
    assert len(asked) == 3
