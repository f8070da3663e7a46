"""Close every route to callers without an account, whichever framework inside MLflow serves it.

MLflow checks accounts in two places, one for its Flask routes and one for its FastAPI routes, each
with its own list of exceptions. Instead of trusting that no route is forgotten, this middleware
stands before both. What an account may do is still decided by MLflow alone.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Authenticate = Callable[[str, bytes, str], Awaitable[bool]]

OPEN_PATHS = frozenset({"/health", "/version", "/api/3.0/mlflow/server-info", "/ajax-api/3.0/mlflow/server-info"})
# Its routes take MLflow's account from a header of their own, because `Authorization` there holds
# the key of the model's provider; MLflow checks each of them (tests/server/test_doors.py proves it).
_GATEWAY_PREFIX = "/gateway/"
_MAX_KNOWN = 10_000


class KnownCredentials:
    """Headers found to be right a moment ago, so that a busy client is checked once, not twice a request.

    Only a keyed digest of a header is kept. An entry lives a little shorter than MLflow's own cache
    entry for it, so that an expensive password check never happens on the event loop.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._key = os.urandom(32)
        self._until: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def __contains__(self, header: bytes) -> bool:
        return self._until.get(self._digest(header), 0.0) > self._clock()

    def add(self, header: bytes) -> None:
        """Remember that `header` is right."""
        if self._seconds <= 0:
            return
        with self._lock:
            if len(self._until) >= _MAX_KNOWN:
                self._until.clear()
            self._until[self._digest(header)] = self._clock() + self._seconds

    def _digest(self, header: bytes) -> bytes:
        return hashlib.blake2b(header, key=self._key, digest_size=32).digest()


class RequireAccount:
    """ASGI middleware: 401 without an account, but for the open paths and a browser's preflight."""

    def __init__(self, app: ASGIApp, authenticate: Authenticate, known: KnownCredentials, version: str) -> None:
        self._app = app
        self._authenticate = authenticate
        self._known = known
        self._version = version.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, answer it, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            # MLflow has no other kind of route.
            await send({"type": "websocket.close", "code": 1008})
        elif scope["path"] == "/version" and scope["method"] in ("GET", "HEAD"):
            # MLflow itself asks for an account here, against its own documentation.
            await _respond(send, 200, self._version, [])
        elif await self._may_pass(scope):
            await self._app(scope, receive, send)
        else:
            await _respond(
                send,
                401,
                b"You are not authenticated. Log in with an MLflow account of this server.",
                [(b"www-authenticate", b'Basic realm="mlflow"')],
            )

    async def _may_pass(self, scope: Scope) -> bool:
        path: str = scope["path"]
        if path in OPEN_PATHS or path.startswith(_GATEWAY_PREFIX):
            return True
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if _is_preflight(scope, headers):
            return True
        authorization = headers.get(b"authorization")
        if authorization is None:
            return False
        if authorization in self._known:
            return True
        if not await self._authenticate(path, authorization, scope["method"]):
            return False
        self._known.add(authorization)
        return True


def _is_preflight(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    # Browsers send it without credentials; MLflow's CORS middleware answers it before any route.
    return scope["method"] == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


async def _respond(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    start = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
