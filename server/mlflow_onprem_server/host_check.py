"""Refuse requests for foreign names and writes from foreign web pages, before accounts and MLflow see them.

MLflow has a check of its own, which compares letter for letter: GPU01 is not gpu01 there, and a name counts on
one port only. This one stands in its place; MLflow's is told to let everything pass (environment.py).
"""

from __future__ import annotations

import logging
from typing import cast

from .names import Address, Names, OwnNames, parse
from .require_account import ASGIApp, Receive, Scope, Send
from .settings import Settings

logger = logging.getLogger("mlflow_onprem.host_check")

# Who watches a server asks these, often by a name of its own.
_ANY_NAME = frozenset({"/health", "/version"})
_WRITING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_CONFIG = "[mlflow] of /etc/mlflow-onprem/config.toml, then: sudo mlflow-onprem install"
_MAX_LOGGED = 100


class HostCheck:
    """ASGI middleware: 403, in words for whoever sees it, for a name that is not this server's and for a page that may not write.

    `sites` answers requests of pages that may; nothing behind this one sees an Origin header.
    """

    def __init__(self, app: ASGIApp, names: Names, sites: ASGIApp) -> None:
        self._app = app
        self._names = names
        self._sites = sites
        self._logged: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        asked: Address | None = None
        for text in asked_for(headers):
            asked = parse(text)
            if (asked is None or not self._names.serves(asked)) and scope["path"] not in _ANY_NAME:
                await self._refuse(send, foreign_name(text, asked))
                return
        origin = next((value.decode("latin-1") for name, value in headers if name == b"origin"), None)
        if origin is None:
            await self._app(scope, receive, send)
        elif asked is not None and self._names.may_write(origin, asked):
            await self._sites(scope, receive, send)
        elif scope["method"] in _WRITING or _asks_first(scope):
            await self._refuse(send, foreign_page(origin))
        else:
            # Reading is no harm: without a word from us the browser keeps the answer from the page.
            await self._app(without_origin(scope), receive, send)

    async def _refuse(self, send: Send, text: str) -> None:
        first = text.partition("\n")[0]
        if first not in self._logged and len(self._logged) < _MAX_LOGGED:
            self._logged.add(first)
            logger.warning("Refused: %s", first)
        body = f"{text}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
        await send({"type": "http.response.start", "status": 403, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
        await send({"type": "http.response.body", "body": body})


def install(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Put the check before `app`."""
    from starlette.middleware.cors import CORSMiddleware

    async def from_program(scope: Scope, receive: Receive, send: Send) -> None:
        await app(without_origin(scope), receive, send)

    # Whose pages may write is decided before; this only tells the browser so.
    sites = CORSMiddleware(
        from_program,
        allow_origin_regex=".*",
        allow_credentials=True,
        allow_methods=["GET", *sorted(_WRITING)],
        allow_headers=["*"],
        expose_headers=["*"],
    )
    return HostCheck(app, Names(settings.hosts, settings.origins, OwnNames()), cast("ASGIApp", sites))


def asked_for(headers: list[tuple[bytes, bytes]]) -> list[str]:
    """The names a request goes to: its Host header and, where a proxy stands before us, the one that the proxy was asked for (last).

    The second only makes the check stricter: a proxy that sends every name on as its own would undo it.
    """
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"] or [""]
    return hosts + [value.decode("latin-1").partition(",")[0] for name, value in headers if name == b"x-forwarded-host"]


def foreign_name(text: str, asked: Address | None) -> str:
    """What is said to a request for a name that is not known here. Its first words are MLflow's own: people search for them."""
    if asked is None:
        return f"Invalid Host header: {_shown(text)} is no host name" if text else "Invalid Host header: the request has none"
    return (
        f"Invalid Host header: this MLflow server is not known by the name {asked.name}\n"
        f'If it should be, its administrator adds the name on the server: hosts = ["{asked.name}"] in {_CONFIG}\n'
        "Unknown names are refused so that no web page can reach this server through a visitor's browser (DNS rebinding)."
    )


def foreign_page(origin: str) -> str:
    """What is said to a web page of another site that wants to change something."""
    shown = _shown(origin)
    return (
        f"Cross-origin request blocked: pages of {shown} may not change anything on this MLflow server\n"
        f'If they should, its administrator adds the site on the server: origins = ["{shown}"] in {_CONFIG}\n'
        "If that is this server's own name (behind a reverse proxy, for instance), add the name to hosts there instead."
    )


def without_origin(scope: Scope) -> Scope:
    """The same request as a program sends it, not a web page: MLflow's own check of pages has nothing to say then."""
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"origin"]}


def _asks_first(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and any(name == b"access-control-request-method" for name, _ in scope["headers"])


def _shown(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable() and letter not in '"\\<>')[:200]
