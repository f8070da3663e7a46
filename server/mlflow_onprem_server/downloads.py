"""Downloads that go from the store to the client's socket, without a temporary file and without the whole object in memory.

This middleware stands around the whole of MLflow's app. Once MLflow has decided everything about a request (account, permission, path) and its
artifact repository has named the object (handover.py), the object is sent in place of MLflow's answer. So the bytes do not pass Flask's
bridge either, which keeps an answer in memory without a limit where the client is slow.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from . import handover, opening
from .drain import ABORT
from .reading import StoreFailed
from .require_account import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("mlflow_onprem.downloads")

# Seconds for a client to take one chunk. It may be slow for as long as it likes; it may not hold a connection and do nothing.
STALLED_SECONDS = 300.0


class Downloads:
    """ASGI middleware: what the repository handed over is streamed, every other answer passes as it is."""

    def __init__(self, app: ASGIApp, stalled_seconds: float = STALLED_SECONDS) -> None:
        self._app = app
        self._stalled_seconds = stalled_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let MLflow answer, and send the object where it is about one."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        asked, held = handover.Asked(), list[Message]()

        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start" and asked.found is not None and message["status"] == handover.STATUS:
                held.append(message)
            elif not held:
                await send(message)

        token = handover.asked.set(asked)
        try:
            # MLflow checks what an account may do by path and method, and knows no HEAD there: it is a GET whose body stays here.
            await self._app({**scope, "method": "GET"}, receive, hold)
        finally:
            handover.asked.reset(token)
        if held and asked.found is not None:
            await self._answer(asked.found, held[0], scope, receive, send)

    async def _answer(self, found: handover.StoredObject, start: Message, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer = await asyncio.to_thread(opening.answer, found, scope["method"], headers)
        try:
            own = [(name.encode(), value.encode("latin-1", "replace")) for name, value in answer.headers.items()]
            names = {name for name, _ in own} | {b"content-type", b"content-length"}
            others = [(name, value) for name, value in start["headers"] if name.lower() not in names]
            await send({"type": "http.response.start", "status": answer.status, "headers": [*others, *own]})
            if answer.rest is None:
                await send({"type": "http.response.body", "body": answer.first})
                return
            gone = asyncio.create_task(_disconnected(receive))
            try:
                await self._stream(answer, gone, send)
            except (StoreFailed, TimeoutError) as failed:
                # The length is said already: nothing but a connection that breaks tells the client.
                logger.error("a download ended early: %s", failed or f"the client took nothing for {self._stalled_seconds:.0f} s")
                abort: Callable[[], None] = scope[ABORT]
                abort()
                await gone
            finally:
                gone.cancel()
        finally:
            if answer.rest is not None:
                answer.rest.close()

    async def _stream(self, answer: opening.Answer, gone: asyncio.Task[None], send: Send) -> None:
        """The next chunk comes from the store while the one before goes to the client."""
        assert answer.rest is not None
        chunk = answer.first
        while chunk and not gone.done():
            coming = asyncio.ensure_future(asyncio.to_thread(answer.rest.read))
            try:
                await asyncio.wait_for(send({"type": "http.response.body", "body": chunk, "more_body": True}), self._stalled_seconds)
            finally:
                # A thread that reads cannot be stopped; the store's own time-outs end it.
                await asyncio.wait([coming])
            chunk = coming.result()
        if not gone.done():
            await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
