"""What is looked at before MLflow sees an upload: the name as the client sent it; and that the client hears a refusal at all."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from . import object_names

if TYPE_CHECKING:
    from .require_account import ASGIApp, Message, Receive, Scope, Send

_ROUTE = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/(?P<name>.*)", re.DOTALL)


class Uploads:
    """MLflow's app, with uploads of files looked at on their way in."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _ROUTE.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "PUT" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        body = _Body(receive, send)
        if why := object_names.unfit(route["name"]):
            await body.refuse(object_names.unfit_message(route["name"], why))
        else:
            await self._app(scope, body.receive, body.send)


class _Body:
    """A request's body that is read to its end before an answer goes out.

    A client that is still sending would find the connection shut instead of the answer, and try again and again.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._ended = False

    async def receive(self) -> Message:
        """The next piece, remembering whether it is the last."""
        message = await self._receive()
        self._ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Answer, once nothing more comes in."""
        while message["type"] == "http.response.start" and not self._ended:
            await self.receive()
        await self._send(message)

    async def refuse(self, message: str) -> None:
        """HTTP 400 in MLflow's own form."""
        content = json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": message}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await self.send({"type": "http.response.start", "status": 400, "headers": headers})
        await self.send({"type": "http.response.body", "body": content})
