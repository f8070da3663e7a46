"""Run by test_write_check in MLflow's environment: uploads by every way the repositories have, and what they send to the store."""

from __future__ import annotations

import asyncio
import io
import os
import re
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

OBJECTS: dict[str, bytes] = {}
ASKED: list[str] = []


class Store(BaseHTTPRequestHandler):
    """As little S3 as the check and an upload need. As in MinIO, an object hides what is below its name."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._note()
        self._answer(200 if self._key() in OBJECTS else 404)

    def do_GET(self) -> None:
        self._note()
        prefix = parse_qs(urlsplit(self.path).query)["prefix"][0]
        found = sorted(key for key in OBJECTS if key.startswith(prefix) and prefix.rstrip("/") not in OBJECTS)
        keys = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in found[:1])
        self._answer(200, f"<ListBucketResult>{keys}</ListBucketResult>".encode())

    def do_PUT(self) -> None:
        self._note()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "partNumber" not in self.path:
            OBJECTS[self._key()] = body
        self._answer(200, headers={"ETag": '"e"'})

    def do_POST(self) -> None:
        self._note()
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "uploadId" in self.path:
            OBJECTS[self._key()] = b"large"
        self._answer(200, b"<Result><UploadId>u</UploadId><ETag>e</ETag></Result>")

    def do_DELETE(self) -> None:
        self._note()
        self._answer(204)

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/mlflow/")

    def _note(self) -> None:
        ASKED.append(f"{self.command} {re.sub('X-Amz[^&]*&?', '', self.path)}")

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ |= {
    "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
    "ONPREM_PUBLIC_S3_URL": f"http://127.0.0.1:{server.server_port}",
    "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
}

from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository  # noqa: E402
from mlflow_onprem_server import write_check  # noqa: E402  # the package's name there
from mlflow_onprem_server.artifacts import ProxiedS3ArtifactRepository  # noqa: E402
from mlflow_onprem_server.presigned import PresignedS3ArtifactRepository  # noqa: E402

write_check.install()
RUN = "1/r/artifacts"
proxied = ProxiedS3ArtifactRepository("onprem-s3://mlflow")
presigned = PresignedS3ArtifactRepository("onprem-presigned-s3://mlflow")
direct = S3ArtifactRepository(f"s3://mlflow/{RUN}")
folder = Path(tempfile.mkdtemp())
(folder / "config").write_text("a")
(folder / "tree").mkdir()
(folder / "tree" / "train.yaml").write_text("b")


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size):
        yield bytes(1 << 20)


def put(name: str, repository: Any = proxied, size: int = 1) -> None:
    head, _, tail = f"{RUN}/{name}".rpartition("/")
    asyncio.run(repository.log_artifact_from_async_stream(_chunks(size), tail, artifact_path=head))


def refused(call: Callable[[], object], *words: str) -> None:
    before = dict(OBJECTS)
    answer = None
    try:
        call()
    except MlflowException as failed:
        answer = failed
    assert answer is not None, "was not refused"
    assert answer.get_http_status_code() == 400, answer
    assert all(word in answer.message for word in words), answer.message
    assert before == OBJECTS


def reset(*names: str) -> None:
    OBJECTS.clear()
    ASKED.clear()
    for name in names:
        put(name)


for repository in (proxied, presigned):
    # Either order, near and far, small and large: by the route of every client.
    reset("config")
    for size in (1, 20):
        refused(partial(put, "config/train.yaml", repository, size), "'config' is a file", "Nothing was stored")
        refused(partial(put, "config/a/b/c.txt", repository, size), "'config' is a file")
    reset("x/y/z/w.txt")
    for name in ("x", "x/y", "x/y/z"):
        refused(partial(put, name, repository), "there is a folder of that name", "x/y/z/w.txt")
    refused(partial(put, "x", repository, 20), "there is a folder of that name")
    # What hides nothing is stored: siblings, names that only begin alike, the same file again.
    for name in ("x/y/z/v.txt", "x/y.txt", "x-y", "x/y/z/w.txt"):
        put(name, repository)
    assert len(OBJECTS) == 4
    # The ways of MLflow's own code: a file, a folder, a stream, an archived trace.
    reset("config/train.yaml")
    refused(partial(repository.log_artifact, str(folder / "config"), RUN), "there is a folder of that name")
    refused(partial(repository.log_artifact_from_stream, io.BytesIO(b"a"), "config", artifact_path=RUN), "there is a folder of that name")
    reset("config")
    refused(partial(repository.log_artifacts, str(folder / "tree"), f"{RUN}/config"), "'config' is a file")
    OBJECTS["traces.pb/x"] = b""
    refused(partial(repository.upload_archived_trace_data_bytes, b"a"), "there is a folder of that name")

# Transfers that clients make themselves: asked before the first part, and again before the last word.
reset("config")
refused(lambda: presigned.create_multipart_upload("train.yaml", 2, f"{RUN}/config"), "'config' is a file")
refused(lambda: presigned.create_presigned_upload_url(f"{RUN}/config/train.yaml"), "'config' is a file")
refused(lambda: presigned.create_presigned_upload_url(f"{RUN}/a//b"), "two in a row")
upload = presigned.create_multipart_upload("train.yaml", 1, f"{RUN}/data")
put("data")
refused(lambda: presigned.complete_multipart_upload("train.yaml", upload.upload_id, [], f"{RUN}/data"), "'data' is a file")
assert "X-Amz-Signature" in presigned.create_presigned_upload_url(f"{RUN}/other").presigned_url

# A run of `direct`, written by the server itself.
reset("config")
refused(lambda: direct.log_artifacts(str(folder / "tree"), "config"), "'config' is a file")
refused(lambda: put("bad\nname"), "control character")

# Cheap: folders are remembered, and one question a file remains.
reset("a/b/c/1.txt")
ASKED.clear()
put("a/b/c/2.txt")
assert [each.split()[0] for each in ASKED] == ["GET", "PUT"], ASKED
# But what is remembered is forgotten as soon as somebody writes there, in whatever worker.
OBJECTS.clear()
put("a/b")
refused(lambda: put("a/b/c/3.txt"), "'a/b' is a file")

# Two at once: one of them is refused, whoever it is.
for _ in range(20):
    reset()
    outcomes: list[str] = []

    def write(name: str, outcomes: list[str] = outcomes) -> None:
        try:
            put(name)
            outcomes.append("stored")
        except MlflowException:
            outcomes.append("refused")

    threads = [threading.Thread(target=write, args=(name,)) for name in ("race", "race/x")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(outcomes) == ["refused", "stored"], outcomes
    assert len(OBJECTS) == 1

print("all is well")
