"""An S3 store in this process, as far as boto3 asks it in the tests: objects in memory, a record of requests, and failures on demand."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mlflow_onprem_server.ranges import portion

DATE = "Wed, 25 Nov 2026 20:00:00 GMT"
LISTING = '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>'


@dataclass
class FakeStore:
    """What is stored, by key without the bucket; what was asked; how it shall fail."""

    objects: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    # Bytes after which each of the next answers breaks off.
    breaks: list[int] = field(default_factory=list)
    # What stands under a key once an answer has broken off.
    replaced_at_break: dict[str, bytes] = field(default_factory=dict)
    # Status and code of the next answers.
    refuses: list[tuple[int, str]] = field(default_factory=list)
    #: Set when somebody closed the connection before the end of an answer.
    cut: threading.Event = field(default_factory=threading.Event)
    port: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: FakeStore

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' name
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        key = unquote(parts.path).removeprefix("/mlflow").removeprefix("/")
        self.store.asked.append((self.command, key, self.headers.get("Range", "")))
        if self.store.refuses:
            status, code = self.store.refuses.pop(0)
            self._answer(status, {}, f"<Error><Code>{code}</Code><Message>SELECT secret</Message></Error>".encode())
        elif not key:
            self._answer(200, {}, LISTING.encode())
        elif key not in self.store.objects:
            self._answer(404, {}, b"<Error><Code>NoSuchKey</Code><Message>no</Message></Error>")
        else:
            self._object(key)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _object(self, key: str) -> None:
        content = self.store.objects[key]
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        if self.headers.get("If-Match", etag) != etag:
            self._answer(412, {}, b"<Error><Code>PreconditionFailed</Code><Message>no</Message></Error>")
            return
        part = portion({"range": self.headers.get("Range", "")}, len(content), etag, DATE)
        kept = self.store.headers.get(key, {})
        self._answer(part.status, {"ETag": etag, "Last-Modified": DATE, **kept}, content[part.start : part.stop])

    def do_PUT(self) -> None:
        key = unquote(urlsplit(self.path).path).removeprefix("/mlflow/")
        query = parse_qs(urlsplit(self.path).query)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.store.asked.append((self.command, key, ""))
        self.store.objects[key] = self.store.objects.get(key, b"") + body if "partNumber" in query else body
        self.store.headers[key] = {name: self.headers[name] for name in ("Content-Encoding", "Content-Type") if name in self.headers}
        self._answer(200, {"ETag": '"x"'}, b"")

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = self.store.breaks.pop(0) if self.store.breaks and status in (200, 206) else len(body)
        try:
            for at in range(0, min(stop, len(body)), 1 << 16):
                self.wfile.write(body[at : min(at + (1 << 16), stop)])
        except OSError:
            self.store.cut.set()
        if stop < len(body):
            self.close_connection = True
            self.store.objects.update(self.store.replaced_at_break)
            self.store.replaced_at_break.clear()


@contextmanager
def fake_store() -> Iterator[FakeStore]:
    """A store on loopback for as long as the block runs."""
    store = FakeStore()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": store}))
    store.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
