"""Names as people write them into the configuration, and what becomes of them."""

from __future__ import annotations

import pytest
from mlflow_onprem_server import names

from mlflow_onprem.settings import public_names


@pytest.mark.parametrize(
    ("text", "entry", "url"),
    [
        ("MLflow.Example.com", "mlflow.example.com", "http://mlflow.example.com:5000"),
        ("mlflow.example.com.", "mlflow.example.com", "http://mlflow.example.com:5000"),
        ("ml_server", "ml_server", "http://ml_server:5000"),
        ("mlflow.example.com:8443", "mlflow.example.com:8443", "http://mlflow.example.com:8443"),
        ("mlflow.example.com:443", "mlflow.example.com:443", "https://mlflow.example.com"),
        ("mlflow.example.com:80", "mlflow.example.com:80", "http://mlflow.example.com"),
        ("10.0.0.7", "10.0.0.7", "http://10.0.0.7:5000"),
        ("FD00:0::7", "fd00::7", "http://[fd00::7]:5000"),
        ("[fd00::7]:5001", "[fd00::7]:5001", "http://[fd00::7]:5001"),
        ("[FD00::7]", "[fd00::7]", "http://[fd00::7]:5000"),
        ("München.example", "xn--mnchen-3ya.example", "http://xn--mnchen-3ya.example:5000"),
    ],
)
def test_hosts(text: str, entry: str, url: str) -> None:
    assert (public_names.host(text), public_names.url(entry, 5000)) == (entry, url)
    assert names.entry(entry) is not None, "the server does not read it"


def test_a_suffix() -> None:
    assert public_names.host("*.Example.com:8443") == "*.example.com:8443"
    assert names.entry("*.example.com:8443") is not None


@pytest.mark.parametrize(
    "text", ["", "*", "a*b", "*.*.example", "http://a", "a/b", "a b", "a:x", "a:0", ".a", "a..b", "[a]", "10.0.0.0/8", "\u2603.example"]
)
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        public_names.host(text)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://App.Example.com/", "https://app.example.com"),
        ("HTTP://dev.example:3000", "http://dev.example:3000"),
        ("https://*.pages.example", "https://*.pages.example"),
        ("http://[fd00::7]:3000", "http://[fd00::7]:3000"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
    ],
)
def test_origins(text: str, origin: str) -> None:
    assert public_names.origin(text) == origin
    rule = names.Names((), (origin,), names.OwnNames())
    assert rule.may_write(origin.replace("*.", "x."), names.Address("10.0.0.1"))


@pytest.mark.parametrize("text", ["app.example", "https://", "ftp://a", "https://a/b", "*", "https://*"])
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        public_names.origin(text)
