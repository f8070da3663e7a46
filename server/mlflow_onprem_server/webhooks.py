"""Webhooks to receivers inside the company: those that the administrator lists, and no others.

MLflow sends webhooks over https to public addresses alone, so that nobody with an account makes the server call what only the server reaches. Its one
switch for private addresses lets everything through. Leant on: `_validate_webhook_url`, which is asked when a webhook is made and
before each delivery, and the connections of `mlflow.webhooks.ssrf`, which look at the address that was really reached.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
_SYSTEM_STORE = "/etc/ssl/certs/ca-certificates.crt"
_HINT = " For a receiver inside the company: an administrator lists it in webhook_hosts of [mlflow] on the server."


class Receivers:
    """The listed receivers: `name`, `name:port` or `https://name:port` for https, `http://...` where plain http was asked for."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._listed = {_place(entry if "://" in entry else f"https://{entry}") for entry in entries}

    def url(self, url: object) -> bool:
        """Whether this address is listed."""
        try:
            return isinstance(url, str) and _place(url) in self._listed
        except ValueError:
            return False

    def connection(self, scheme: str, host: str, port: int | None) -> bool:
        """Whether a connection goes to a listed receiver, by the name that was asked for."""
        return (scheme, host.lower().strip("[]").rstrip("."), port or _PORTS[scheme]) in self._listed


def install(entries: Iterable[str]) -> None:
    """Open MLflow's webhooks to these; once, in each worker."""
    receivers = Receivers(entries)
    for name in ("mlflow.utils.validation", "mlflow.store.model_registry.sqlalchemy_store", "mlflow.webhooks.delivery"):
        module = importlib.import_module(name)
        module._validate_webhook_url = _validating(module._validate_webhook_url, receivers)  # type: ignore[attr-defined]
    try:
        ssrf: Any = importlib.import_module("mlflow.webhooks.ssrf")
    except ImportError:  # before 3.15 MLflow looked at names alone
        ssrf = None
    if ssrf is not None:
        for scheme, kind in (("http", ssrf._SSRFProtectedHTTPConnection), ("https", ssrf._SSRFProtectedHTTPSConnection)):
            kind._new_conn = _connecting(kind, scheme, receivers)
    from mlflow.webhooks import delivery

    delivery._create_webhook_session = _trusting(delivery._create_webhook_session)


def _validating(real: Callable[[str], None], receivers: Receivers) -> Callable[[str], None]:
    from mlflow.exceptions import MlflowException

    @functools.wraps(real)
    def validate(url: str) -> None:
        if receivers.url(url):
            return
        try:
            real(url)
        except MlflowException as refused:
            raise MlflowException.invalid_parameter_value(refused.message + _HINT) from None

    return validate


def _connecting(kind: Any, scheme: str, receivers: Receivers) -> Callable[[Any], Any]:
    guarded, plain = kind._new_conn, kind.__mro__[1]._new_conn

    def new_conn(self: Any) -> Any:
        return plain(self) if receivers.connection(scheme, self.host, self.port) else guarded(self)

    return new_conn


def _trusting(real: Callable[[], Any]) -> Callable[[], Any]:
    """MLflow's session reads no variable of the environment, and so not where a company's CA is."""

    def session() -> Any:
        made = real()
        bundles = (os.environ.get("REQUESTS_CA_BUNDLE"), os.environ.get("SSL_CERT_FILE"), _SYSTEM_STORE)
        made.verify = next((bundle for bundle in bundles if bundle and Path(bundle).exists()), True)
        return made

    return session


def _place(url: str) -> tuple[str, str, int]:
    """Scheme, name and port of an address. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise ValueError(url)
    return parts.scheme, parts.hostname.rstrip("."), parts.port or _PORTS[parts.scheme]
