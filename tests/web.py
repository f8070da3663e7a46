"""Small servers on loopback for tests of what talks to one."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    """What a client sent. `path` is what stood in the request line: to a proxy it is a whole address."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str

    @property
    def account(self) -> tuple[str, str] | None:
        """Name and password of basic authentication."""
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        name, _, password = base64.b64decode(value).decode().partition(":")
        return (name, password) if kind == "Basic" else None


#: Status, body, headers.
Reply = tuple[int, str, Mapping[str, str]]


@dataclass
class Site:
    """A server and what it was asked."""

    url: str
    port: int
    requests: list[Request] = field(default_factory=list)


@contextlib.contextmanager
def serve(answer: Callable[[Request], Reply], context: ssl.SSLContext | None = None) -> Iterator[Site]:
    """A server on a free port of 127.0.0.1, with TLS where a context is given, for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(self.command, self.path, dict(self.headers), self.rfile.read(length).decode())
            site.requests.append(request)
            status, body, headers = answer(request)
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body.encode())), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_POST = do_PATCH = do_DELETE = reply  # noqa: N815  # the library's names

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that breaks off is part of the tests
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    site = Site(f"http{'s' if context else ''}://127.0.0.1:{server.server_port}", server.server_port)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def as_json(body: object, status: int = 200) -> Reply:
    """A JSON answer."""
    return status, json.dumps(body), {"Content-Type": "application/json"}
