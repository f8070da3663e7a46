"""Names and web pages: the rule as a pure function, what this host is called, and the check on requests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mlflow_onprem_server import host_check, names
from mlflow_onprem_server.names import Address, Entry, Names, OwnNames

HOSTS = "127.0.0.1 localhost\n127.0.1.1 GPU01.corp.example GPU01  # as Debian writes it\n10.0.0.9 other\n10.0.0.8 ml.corp.example gpu01\n"
CONFIGURED = ("mlflow.example.com", "ports.example.com:8443", "tls.example.com:443", "*.apps.example.com", "xn--mnchen-3ya.example", "fd00::7")


@pytest.fixture
def own(tmp_path: Path) -> OwnNames:
    """A host called GPU01, as Debian's installer leaves it."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text("GPU01\n")
    (tmp_path / "etc/hosts").write_text(HOSTS)
    (tmp_path / "etc/resolv.conf").write_text("# by DHCP\nnameserver 10.0.0.1\nsearch lab.example Corp.Example.\n")
    return OwnNames(tmp_path, lambda: "GPU01")


@pytest.fixture
def rule(own: OwnNames) -> Names:
    return Names(CONFIGURED, ("https://app.example", "http://dev.example:3000", "https://*.pages.example"), own)


@pytest.mark.parametrize(
    ("text", "name", "port"),
    [
        ("gpu01", "gpu01", None),
        ("GPU01:5000", "gpu01", 5000),
        ("GPU01.Corp.Example.", "gpu01.corp.example", None),
        ("gpu01.:15000", "gpu01", 15000),
        ("ml_server_1:80", "ml_server_1", 80),
        ("10.0.0.7:5000", "10.0.0.7", 5000),
        ("[FD00::7]:5000", "fd00::7", 5000),
        ("[fe80::1%25eth0]:5000", "fe80::1", 5000),
        ("[::1]", "::1", None),
    ],
)
def test_a_host_header(text: str, name: str, port: int | None) -> None:
    assert names.parse(text) == Address(name, port)


@pytest.mark.parametrize(
    "text", ["", ":5000", "a b", "a:70000", "a:x", "fd00::7", "[gpu01]", "[10.0.0.7]x", "http://a", "a/b", "a@b", "münchen.example", "a\x00"]
)
def test_no_host_header(text: str) -> None:
    assert names.parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("gpu01", "GPU01", "gpu01:5000", "GPU01:15000", "gpu01.", "gpu01.:80"),  # the host's own name, on any port
        *("gpu01.corp.example:5000", "GPU01.CORP.EXAMPLE.", "ml.corp.example"),  # what /etc/hosts calls it
        *("gpu01.lab.example", "gpu01.local:5000"),  # the domain it searches; multicast DNS
        *("localhost:15000", "LOCALHOST", "127.0.0.1:15000", "[::1]:15000", "mlflow.localhost:8080"),  # ssh -L
        *("10.0.0.7", "203.0.113.9:5000", "[fd00::1]:5000", "[::ffff:10.0.0.7]"),  # any address: none can be forged
        *("MLflow.Example.com", "mlflow.example.com:443", "mlflow.example.com.:9999"),
        *("ports.example.com:8443", "tls.example.com", "tls.example.com:443"),
        *("a.apps.example.com", "a.b.APPS.example.com:5000", "xn--mnchen-3ya.example"),
    ],
)
def test_what_is_served(rule: Names, text: str) -> None:
    asked = names.parse(text)
    assert asked is not None
    assert rule.serves(asked)


@pytest.mark.parametrize(
    "text",
    [
        *("attacker.example", "gpu01.attacker.example", "attacker.example:5000", "xgpu01", "gpu01x", "other"),
        *("10.0.0.7.attacker.example", "10.attacker.example", "192.168.attacker.example", "127.0.0.1.attacker.example", "127.1", "0x7f000001"),
        *("localhost.attacker.example", "xlocalhost"),
        *("mlflow.example.com.attacker.example", "x.mlflow.example.com", "apps.example.com", "xapps.example.com"),
        *("ports.example.com", "ports.example.com:5000", "tls.example.com:5000"),
    ],
)
def test_what_is_not_served(rule: Names, text: str) -> None:
    asked = names.parse(text)
    assert asked is not None
    assert not rule.serves(asked)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://gpu01:5000", "gpu01:5000"),
        ("http://GPU01:8888", "gpu01:5000"),  # another port of it
        ("https://gpu01.corp.example", "10.0.0.7:5000"),  # another name of it
        ("http://10.0.0.7:5000", "10.0.0.7:5000"),
        ("http://[fd00::1]:5000", "[fd00::1]:5000"),
        ("http://localhost:15000", "localhost:15000"),
        ("http://localhost:3000", "gpu01:5000"),  # a developer's own machine, as in MLflow
        ("https://mlflow.example.com", "127.0.0.1:5000"),  # a proxy that calls us by our address
        ("HTTPS://MLflow.example.com", "mlflow.example.com"),
        ("https://ports.example.com:8443", "127.0.0.1:5000"),
        ("https://tls.example.com", "127.0.0.1:5000"),
        ("https://x.apps.example.com", "gpu01:5000"),
        ("http://[fd00::7]:5000", "gpu01:5000"),
        ("https://app.example", "gpu01:5000"),
        ("https://APP.example:443", "gpu01:5000"),
        ("http://dev.example:3000", "gpu01:5000"),
        ("https://a.pages.example", "gpu01:5000"),
    ],
)
def test_pages_that_may_write(rule: Names, origin: str, host: str) -> None:
    asked = names.parse(host)
    assert asked is not None
    assert rule.may_write(origin, asked)


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "", "https://attacker.example", "http://203.0.113.9", "http://10.0.0.8:5000", "file://", "chrome-extension://abcdef"),
        *("http://app.example", "https://app.example:8443", "https://x.app.example", "http://dev.example", "https://pages.example"),
        *("https://localhost.attacker.example", "https://mlflow.example.com.attacker.example", "https://mlflow.example.com@attacker.example"),
        *("https://ports.example.com", "http://[::1", "gpu01:5000", "https://mlflow.example.com/x"),
    ],
)
def test_pages_that_may_not(rule: Names, origin: str) -> None:
    assert not rule.may_write(origin, Address("10.0.0.7", 5000))


def test_entries_of_the_configuration() -> None:
    assert names.entry("*.Example.com:8443") == Entry(Address("example.com", 8443), suffix=True)
    assert names.entry("[fd00::7]:5000") == Entry(Address("fd00::7", 5000))
    assert names.entry("fd00::7") == Entry(Address("fd00::7"))
    assert names.entry("*") is None


def test_a_host_that_is_renamed_is_known_by_its_new_name(own: OwnNames, tmp_path: Path) -> None:
    assert "gpu01" in own
    assert "trainer" not in own
    (tmp_path / "etc/hostname").write_text("trainer\n")
    (tmp_path / "etc/hosts").write_text("127.0.1.1 trainer.corp.example trainer\n")
    assert "trainer" in own
    assert "trainer.lab.example" in own
    assert "trainer.corp.example" in own


def test_a_host_that_knows_nothing_of_itself(tmp_path: Path) -> None:
    bare = OwnNames(tmp_path, lambda: "Bare_Host.")
    assert "bare_host" in bare
    assert "" not in bare
    assert "other" not in bare


# the check on requests ---------------------------------------------------------------------------------------------


class Seen:
    """What came through, and what was answered."""

    def __init__(self) -> None:
        self.passed: list[tuple[str, list[tuple[bytes, bytes]]]] = []
        self.sent: list[Any] = []

    def app(self, name: str) -> Any:
        async def called(scope: Any, _receive: object, _send: object) -> None:
            self.passed.append((name, scope["headers"]))

        return called

    def ask(self, rule: Names, method: str, path: str, *headers: tuple[str, str], kind: str = "http") -> str:
        """Where a request ends: "mlflow", "sites" (a page that may write), or the text it is refused with."""
        self.passed, self.sent = [], []

        async def send(message: Any) -> None:
            self.sent.append(message)

        raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        scope = {"type": kind, "method": method, "path": path, "headers": raw}
        check = host_check.HostCheck(self.app("mlflow"), rule, self.app("sites"))
        asyncio.run(check(scope, None, send))  # type: ignore[arg-type]
        return self.passed[0][0] if self.passed else self.sent[1]["body"].decode()


def test_a_foreign_name_is_refused_in_words_that_lead_out(rule: Names) -> None:
    seen = Seen()
    said = seen.ask(rule, "GET", "/", ("Host", "Tracking.Example.org:5000"))
    assert said.startswith("Invalid Host header: this MLflow server is not known by the name tracking.example.org\n")
    assert 'hosts = ["tracking.example.org"] in [mlflow] of /etc/mlflow-onprem/config.toml, then: sudo mlflow-onprem install' in said
    assert seen.sent[0]["status"] == 403
    assert "the request has none" in seen.ask(rule, "GET", "/")
    shown = seen.ask(rule, "GET", "/", ("Host", '<script>"\x1b[31m'))
    assert shown == "Invalid Host header: script[31m is no host name\n"
    assert seen.ask(rule, "GET", "/health", ("Host", "balancer")) == "mlflow"
    assert "not known" in seen.ask(rule, "GET", "/healthy", ("Host", "balancer"))
    assert seen.ask(rule, "", "", kind="lifespan") == "mlflow"


def test_two_names_in_one_request_must_both_be_right(rule: Names) -> None:
    seen = Seen()
    assert "not known" in seen.ask(rule, "GET", "/", ("Host", "attacker.example"), ("Host", "gpu01"))
    assert "not known" in seen.ask(rule, "GET", "/", ("Host", "gpu01"), ("Host", "attacker.example"))


def test_behind_a_proxy_that_calls_us_by_our_address(rule: Names) -> None:
    """Apache's ProxyPass; what it was asked for itself stands in X-Forwarded-Host."""
    seen, backend = Seen(), ("Host", "127.0.0.1:5000")
    page = ("Origin", "https://mlflow.example.com")
    assert seen.ask(rule, "POST", "/graphql", backend, ("X-Forwarded-Host", "mlflow.example.com"), page) == "sites"
    assert seen.ask(rule, "POST", "/graphql", backend, page) == "sites"
    said = seen.ask(rule, "GET", "/", backend, ("X-Forwarded-Host", "attacker.example, mlflow.example.com"))
    assert "not known by the name attacker.example" in said


def test_pages_of_other_sites(rule: Names) -> None:
    seen, host, foreign = Seen(), ("Host", "gpu01:5000"), ("Origin", "https://attacker.example")
    for method, path in (("POST", "/api/2.0/mlflow/runs/create"), ("DELETE", "/x"), ("POST", "/graphql"), ("POST", "/v1/traces")):
        said = seen.ask(rule, method, path, host, foreign)
        assert said.startswith("Cross-origin request blocked: pages of https://attacker.example may not change anything")
        assert 'origins = ["https://attacker.example"] in [mlflow]' in said
    assert "blocked" in seen.ask(rule, "OPTIONS", "/x", host, foreign, ("Access-Control-Request-Method", "POST"))
    # Reading: the browser keeps the answer from the page; MLflow must not see whose page it is.
    assert seen.ask(rule, "GET", "/x", host, foreign) == "mlflow"
    assert [name for name, _ in seen.passed[0][1]] == [b"host"]
    assert seen.ask(rule, "POST", "/x", host, ("Origin", "http://GPU01:5000")) == "sites"
    assert seen.ask(rule, "POST", "/x", host) == "mlflow"


def test_a_refused_name_is_logged_once(rule: Names, caplog: pytest.LogCaptureFixture) -> None:
    check = host_check.HostCheck(Seen().app("mlflow"), rule, Seen().app("sites"))

    async def twice() -> None:
        async def send(_: object) -> None: ...

        for _ in range(2):
            await check({"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"attacker.example")]}, send, send)  # type: ignore[arg-type]

    asyncio.run(twice())
    assert [each.getMessage() for each in caplog.records] == [
        "Refused: Invalid Host header: this MLflow server is not known by the name attacker.example"
    ]
