"""What a client pastes, run where it is pasted; and the check from the client's side, against real servers on loopback."""

from __future__ import annotations

import base64
import io
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
import trustme
from dotenv import dotenv_values

from mlflow_onprem.client import check, env, forms, reach
from mlflow_onprem.client.check import Checked
from mlflow_onprem.client.client import Client
from mlflow_onprem.client.version import compare, installed
from mlflow_onprem.core.errors import CommandFailed, ConfigError, OnPremError
from mlflow_onprem.core.finding import Finding
from mlflow_onprem.core.host import Result
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings import credentials
from mlflow_onprem.settings.config import AuthSection, Config, MlflowSection
from mlflow_onprem.system import host_addresses
from mlflow_onprem.system.local_host import LocalHost
from tests.fakes import FakeHost
from tests.web import Reply, Request, as_json, serve

VALUES = {
    "MLFLOW_TRACKING_URI": "http://mlflow.example.com:5000",
    "MLFLOW_TRACKING_USERNAME": 'it\'s "quoted"',
    "MLFLOW_TRACKING_PASSWORD": r"$HOME `id` $(id) a\b\\c\' #x; & | ! * % ~ end\ ",
    "AWS_SECRET_ACCESS_KEY": "zwölf/+= \u2019curly\u2018",
}


# forms, in the shells that read them (fish: tests/host/test_clients.py) ------------------------------------------------


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_reads_every_value_as_it_is(shell: str) -> None:
    script = forms.form("sh", VALUES, ["a note; with $(signs)"]) + "".join(f'\nprintf "%s\\0" "${name}"' for name in VALUES)
    out = subprocess.run([shell], input=script, capture_output=True, text=True, check=True, env={"HOME": "/nowhere", "PATH": "/usr/bin:/bin"}).stdout
    assert out.split("\0")[:-1] == list(VALUES.values())


def test_a_notebook_cell_sets_every_value_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VALUES:
        monkeypatch.setenv(name, "old")
    names: dict[str, object] = {}
    exec(compile(forms.form("notebook", VALUES, ["a note"]), "cell", "exec"), names)
    environ = names["os"].environ  # type: ignore[attr-defined]
    assert {name: environ[name] for name in VALUES} == VALUES


def test_dotenv_reads_every_value_as_it_is() -> None:
    assert dict(dotenv_values(stream=io.StringIO(forms.form("dotenv", VALUES, ["a note"])))) == VALUES


def test_plain_values_stay_plain_for_readers_that_know_no_quotes() -> None:
    assert forms.form("dotenv", {"A": "http://h:5000", "B": "x/y+z-1_2@c"}, []) == "A=http://h:5000\nB=x/y+z-1_2@c"


def test_powershell_reads_every_value_as_it_is() -> None:
    """By PowerShell's rule for a string in single quotes: every kind of single quote ends it unless it is doubled."""
    read = {}
    for line in forms.form("powershell", VALUES, []).splitlines():
        found = re.fullmatch(r"\$env:(\w+) = '((?:[^'\u2018\u2019\u201a\u201b]|(['\u2018\u2019\u201a\u201b])\3)*)'", line)
        assert found, line
        read[found[1]] = re.sub(r"(['\u2018\u2019\u201a\u201b])\1", r"\1", found[2])
    assert read == VALUES


# which variables ---------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """A host with the stack on it, as far as `client-env` looks."""
    host = FakeHost()
    host.put("/etc/os-release", 'VERSION_CODENAME=bookworm\nPRETTY_NAME="Debian"\n')
    host.put("/proc/meminfo", "MemTotal: 8000000 kB\n")
    host.put(credentials.PATH, credentials.serialize(credentials.generate()).reveal(), 0o600)
    host.programs |= {
        "uname": _says("x86_64\n"),
        "hostname": _says("10.0.0.7 fd00::7 \n"),
        "getent": _says(""),
        "apt-cache": _says(""),
        "dpkg-query": _says(""),
    }
    monkeypatch.setattr(socket, "gethostname", lambda: "ml1")
    monkeypatch.setattr(host_addresses, "towards_the_network", list)
    return host


PROXIES: tuple[tuple[dict[str, str], tuple[str, str]], ...] = (
    ({}, ("ml1,10.0.0.7", "ml1,10.0.0.7")),
    ({"no_proxy": "a,b"}, ("a,b,ml1,10.0.0.7", "a,b,ml1,10.0.0.7")),
    ({"NO_PROXY": "a"}, ("a,ml1,10.0.0.7", "a,ml1,10.0.0.7")),
    ({"no_proxy": "a,10.0.0.7", "NO_PROXY": "c"}, ("a,10.0.0.7,ml1", "c,ml1,10.0.0.7")),
    ({"no_proxy": "*"}, ("*", "*")),
)


@pytest.mark.parametrize(("before", "after"), PROXIES)
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_keeps_what_goes_round_the_proxy_and_adds_the_server(shell: str, before: dict[str, str], after: tuple[str, str]) -> None:
    pasted = forms.form("sh", {}, [], ("ml1", "10.0.0.7"))
    script = f"set -eu\n{pasted}\n{pasted}\nenv"
    found = subprocess.run([shell], input=script, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin", **before}).stdout
    environ = dict(line.partition("=")[::2] for line in found.splitlines())
    assert (environ["no_proxy"], environ["NO_PROXY"]) == after


@pytest.mark.parametrize(("before", "after"), PROXIES)
def test_a_notebook_keeps_what_goes_round_the_proxy(before: dict[str, str], after: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    cell = forms.form("notebook", {}, [], ("ml1", "10.0.0.7"))
    exec(compile(cell, "cell", "exec"), {})
    exec(compile(cell, "cell", "exec"), {})
    assert tuple(os.environ.get(name) for name in ("no_proxy", "NO_PROXY")) in (after, (after[0], None))


def test_dotenv_keeps_what_goes_round_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    text = forms.form("dotenv", {}, [], ("ml1", "10.0.0.7"))
    monkeypatch.setenv("no_proxy", "a")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert dict(dotenv_values(stream=io.StringIO(text))) == {"no_proxy": "a,ml1,10.0.0.7", "NO_PROXY": ",ml1,10.0.0.7"}


def test_powershell_and_fish_name_both_spellings_and_every_host() -> None:
    """Fish itself reads them in tests/host/test_clients.py."""
    for shell in ("powershell", "fish"):
        text = forms.form(shell, {}, [], ("ml1", "10.0.0.7"))
        assert all(each in text for each in ("no_proxy", "NO_PROXY", "ml1", "10.0.0.7", "'*'"))


def test_what_opentelemetrys_own_programs_need() -> None:
    pairs = {"MLFLOW_TRACKING_URI": "http://h:5000", "MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "p?>~\u00ff=,;"}
    found, notes = env.otlp(pairs, "7")
    assert (found["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], found["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"]) == ("http://h:5000/v1/traces", "http/protobuf")
    text = found["OTEL_EXPORTER_OTLP_TRACES_HEADERS"]
    assert re.fullmatch(r"x-mlflow-experiment-id=7,Authorization=[A-Za-z0-9%]+", text), "every other character has a meaning in that variable"
    # As the SDKs read it: a list of pairs, each value percent-decoded.
    headers = {name: unquote(value) for name, _, value in (each.partition("=") for each in text.split(","))}
    scheme, _, account = headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(account).decode()) == ("Basic", "ann:p?>~\u00ff=,;")
    assert notes == []
    assert env.otlp({"MLFLOW_TRACKING_URI": "http://h:5000"}, "0")[0]["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] == "x-mlflow-experiment-id=0"


def test_a_password_that_is_left_out_is_left_out_of_the_header_too() -> None:
    pairs = {"MLFLOW_TRACKING_URI": "http://h:5000", "MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "FILL-IN"}
    found, [note] = env.otlp(pairs, "0")
    assert found["OTEL_EXPORTER_OTLP_TRACES_HEADERS"].endswith("Authorization=Basic%20FILL-IN")
    program = note.partition('python3 -c "')[2].removesuffix('"')
    asked = f"import getpass; getpass.getpass = lambda: 'right-p?'; {program}"
    printed = subprocess.run([sys.executable, "-c", asked], input="ann\n", capture_output=True, text=True, check=True).stdout
    assert base64.b64decode(unquote(printed.removeprefix("account: ").strip())).decode() == "ann:right-p?"


def test_an_account_of_its_own_has_its_password_filled_in_by_its_owner(server: FakeHost) -> None:
    pairs, notes = env.variables(server, Config(), "ann")
    assert pairs == {"MLFLOW_TRACKING_URI": "http://10.0.0.7:5000", "MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "FILL-IN"}
    assert notes == ["put ann's password in place of FILL-IN"]


def test_root_is_handed_the_administrator_and_others_are_not(server: FakeHost) -> None:
    assert env.variables(server, Config(), None)[0]["MLFLOW_TRACKING_USERNAME"] == "admin"
    server.is_root = False
    server.deny.add(credentials.PATH)
    pairs, notes = env.variables(server, Config(), None)
    assert (pairs["MLFLOW_TRACKING_PASSWORD"], len(notes)) == ("FILL-IN", 1)


def test_without_accounts_and_with_a_name(server: FakeHost) -> None:
    config = Config(mlflow=MlflowSection(hosts=("mlflow.example.com",), auth=AuthSection(enabled=False)))
    assert env.variables(server, config, None)[0] == {"MLFLOW_TRACKING_URI": "http://mlflow.example.com:5000"}


# the check ---------------------------------------------------------------------------------------------------------


def mlflow(request: Request, version: str = "3.17.2") -> Reply:
    """MLflow with one account, ann."""
    path = request.path.partition("?")[0]
    if path == "/health":
        return 200, "OK", {}
    if path == "/version":
        return 200, version, {}
    if path == "/api/3.0/mlflow/server-info":
        return as_json({"store_type": "SqlStore"})
    if request.account != ("ann", "right-password"):
        return 401, "You are not authenticated", {}
    return as_json({"user": {"username": "ann", "is_admin": False}})


def ann(url: str, password: str = "right-password", **more: object) -> Client:
    return Client(url, "ann", Secret(password), **more)  # type: ignore[arg-type]


def error(done: Checked) -> Finding:
    """The one step that failed."""
    failed = [each for each in done.findings if each.level == "error"]
    assert len(failed) == 1
    assert not done.healthy
    assert failed[0].fix
    return failed[0]


def test_a_client_that_gets_through() -> None:
    with serve(mlflow) as site:
        done = check.check(ann(site.url), "3.17.0")
    assert done.healthy
    assert [(each.check, each.level) for each in done.findings] == [
        ("port", "ok"),
        ("server", "ok"),
        ("account", "ok"),
        ("names", "ok"),
        ("version", "ok"),
    ]
    assert (done.server, done.findings[2].what) == ("3.17.2", "logged in as ann")


@pytest.mark.parametrize("uri", ["", "file:///tmp/mlruns", "databricks", "http://", "http://host:port", "http://[::1", "./mlruns"])
def test_no_address_of_a_server(uri: str) -> None:
    client = check.read_client({"MLFLOW_TRACKING_URI": uri}, Path("/nonexistent"))
    assert "keeps its runs on its own disk" in error(check.check(client, None)).what


def test_what_was_not_filled_in() -> None:
    assert "FILL-IN still stands" in error(check.check(ann("http://127.0.0.1:9", "FILL-IN"), None)).what


def test_a_name_that_is_not_known() -> None:
    found = error(check.check(ann("http://nowhere.invalid:5000"), None))
    assert found.check == "name"
    assert "nowhere.invalid" in found.what


def test_a_port_that_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = error(check.check(ann(f"http://127.0.0.1:{port}"), None))
    assert found.what == f"port {port} of 127.0.0.1 is closed: the machine is there, and nothing listens"
    assert "this machine itself" in found.fix


def test_a_port_behind_a_firewall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "TIMEOUT", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Nobody takes these: once the queue is full, the kernel drops the next as a firewall does.
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        found = error(check.check(ann(f"http://127.0.0.1:{full.getsockname()[1]}"), None))
        for each in waiting:
            each.close()
    assert found.check == "port"
    assert "a firewall drops it" in found.what


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "ANSWER", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = error(check.check(ann(f"http://127.0.0.1:{silent.getsockname()[1]}"), None))
    assert "no answer came" in found.what


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ((404, "<html>nginx</html>", {"Server": "nginx"}), r"something else than MLflow answers at .* \(nginx\): HTTP 404"),
        ((200, "OK", {}), "something else than MLflow answers"),
        ((502, "bad gateway", {}), "MLflow itself is down or starting"),
        ((301, "", {"Location": "https://mlflow.example.com/"}), "sends on to https://mlflow.example.com/"),
        ((403, "Invalid Host header - possible DNS rebinding attack detected", {}), "refuses requests for the name 127.0.0.1"),
    ],
)
def test_what_answers_is_not_mlflow(reply: Reply, why: str) -> None:
    with serve(lambda _: reply) as site:
        assert re.search(why, error(check.check(ann(site.url), None)).what)


def test_a_name_that_mlflow_does_not_serve_under() -> None:
    def answer(request: Request) -> Reply:
        if request.path in ("/health", "/version"):
            return mlflow(request)
        return 403, "Invalid Host header - possible DNS rebinding attack detected", {}

    with serve(answer) as site:
        found = error(check.check(ann(site.url), "3.17.2"))
    assert 'hosts = ["127.0.0.1"] in [mlflow]' in found.fix


@pytest.mark.parametrize(
    ("client", "why"),
    [
        (("", ""), "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD are not set"),
        (("ann", ""), "MLFLOW_TRACKING_PASSWORD is not set"),
        (("ann", "wrong"), "does not know the account ann with this password"),
    ],
)
def test_an_account_that_is_missing_or_wrong(client: tuple[str, str], why: str) -> None:
    with serve(mlflow) as site:
        found = error(check.check(Client(site.url, client[0], Secret(client[1])), "3.17.2"))
    assert why in found.what
    assert "wrong" not in found.what + found.fix


def test_a_token_is_not_an_account() -> None:
    with serve(mlflow) as site:
        assert "MLFLOW_TRACKING_TOKEN is set" in error(check.check(Client(site.url, token=True), "3.17.2")).what


def test_a_server_without_accounts_is_a_warning() -> None:
    with serve(lambda request: (404, "", {}) if "users/current" in request.path else mlflow(request)) as site:
        done = check.check(Client(site.url), "3.17.2")
    assert done.healthy
    assert [each.what for each in done.findings if each.level == "warning"] == ["the server has no accounts: whoever reaches it may do everything"]


def test_a_netrc_goes_before_the_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login old password stale\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serve(mlflow) as site:
        environ = {"MLFLOW_TRACKING_URI": site.url, "MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "right-password"}
        done = check.check(check.read_client(environ, tmp_path), "3.17.2")
    assert "the account old" in error(done).what
    assert any(each.check == "netrc" and each.level == "warning" for each in done.findings)


def test_mlflows_own_file_of_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow/credentials").write_text("[mlflow]\nmlflow_tracking_username = ann\nmlflow_tracking_password = right%password\n")
    found = check.read_client({"MLFLOW_TRACKING_URI": "http://h:5000", "MLFLOW_TRACKING_USERNAME": "bob"}, tmp_path)
    assert (found.username, found.password.reveal()) == ("bob", "right%password")


# proxies


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], Client]:
    """The client of an environment with a proxy in it."""
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))

    def make(url: str, proxy: str) -> Client:
        for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", proxy)
        environ = {"MLFLOW_TRACKING_URI": url, "MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "right-password"}
        return check.read_client(environ, tmp_path)

    return make


def test_a_proxy_that_stands_in_the_way(through: Callable[[str, str], Client]) -> None:
    with serve(lambda _: (403, "forbidden by policy", {})) as proxy:
        found = error(check.check(through("http://10.87.99.99:5000", proxy.url.replace("//", "//me:secret@")), None))
    assert found.check == "proxy"
    assert "answers HTTP 403 instead of MLflow" in found.what
    assert "export no_proxy=10.87.99.99," in found.fix
    assert "secret" not in found.what
    assert proxy.requests[0].path == "http://10.87.99.99:5000/version"


def test_a_proxy_that_is_gone(through: Callable[[str, str], Client]) -> None:
    assert error(check.check(through("http://10.87.99.99:5000", "http://127.0.0.1:9"), None)).check == "proxy"


def test_a_proxy_that_lets_it_through(through: Callable[[str, str], Client]) -> None:
    def forward(request: Request) -> Reply:
        return mlflow(Request(request.method, request.path.partition("10.87.99.99:5000")[2], request.headers, request.body))

    with serve(forward) as proxy:
        done = check.check(through("http://10.87.99.99:5000", proxy.url), "3.17.2")
    assert done.healthy


# certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


def _tls(authority: trustme.CA, name: str, **more: object) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **more).configure_cert(context)  # type: ignore[arg-type]
    return context


def test_a_certificate_of_the_companys_authority(authority: trustme.CA, bundle: str) -> None:
    with serve(mlflow, _tls(authority, "127.0.0.1")) as site:
        assert check.check(ann(site.url, verify=bundle), "3.17.2").healthy
        found = error(check.check(ann(site.url), "3.17.2"))
        assert "signed by nobody this client trusts" in found.what
        assert "REQUESTS_CA_BUNDLE" in found.fix
        assert check.check(ann(site.url, verify=False), "3.17.2").healthy


def test_a_certificate_for_another_name(authority: trustme.CA, bundle: str) -> None:
    with serve(mlflow, _tls(authority, "other.example.com")) as site:
        assert "is not made for 127.0.0.1" in error(check.check(ann(site.url, verify=bundle), "3.17.2")).what


def test_a_certificate_that_is_out_of_date(authority: trustme.CA, bundle: str) -> None:
    from datetime import datetime, timezone

    with serve(mlflow, _tls(authority, "127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=timezone.utc))) as site:
        assert "is out of date" in error(check.check(ann(site.url, verify=bundle), "3.17.2")).what


def test_the_wrong_one_of_http_and_https(authority: trustme.CA) -> None:
    with serve(mlflow) as plain:
        assert "write http://" in error(check.check(ann(plain.url.replace("http:", "https:")), None)).fix
    with serve(mlflow, _tls(authority, "127.0.0.1")) as tls:
        assert "write https://" in error(check.check(ann(tls.url.replace("https:", "http:")), None)).fix


# versions


@pytest.mark.parametrize(
    ("client", "level", "why"),
    [
        ("3.17.9", "ok", "goes with"),
        ("3.18.0", "warning", "newer"),
        ("4.0.0rc1", "error", "newer"),
        ("3.9.2", "warning", "older"),
        ("2.22.5", "warning", "older"),
        (None, "warning", "no MLflow was found"),
    ],
)
def test_versions(client: str | None, level: str, why: str) -> None:
    found, text, hint = compare(client, "3.17.2")
    assert (found, why in text, bool(hint)) == (level, True, level != "ok")


def test_which_mlflow_the_client_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    asked: list[str] = []

    def python(call: object) -> Result:
        asked.append(call.argv[0])  # type: ignore[attr-defined]
        return Result(0, "3.16.1\n", "")

    host.programs["python"] = python
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").touch()
    assert installed(host, {"VIRTUAL_ENV": str(tmp_path), "PATH": "/nowhere"}, None) == "3.16.1"
    assert asked == [f"{tmp_path}/bin/python"]
    assert installed(host, {"PATH": "/nowhere"}, None) is None
    (tmp_path / "a-python").write_text("#!/bin/sh\necho 3.15.0\n")
    (tmp_path / "a-python").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert installed(LocalHost(), {"PATH": "/nowhere"}, "./a-python") == "3.15.0"
    assert installed(LocalHost(), {"PATH": str(tmp_path)}, "a-python") == "3.15.0"
    with pytest.raises(ConfigError, match="is not a Python"):
        installed(LocalHost(), {}, "/nowhere/python")
    assert installed(LocalHost(), {"PATH": "/nowhere"}, "/bin/true") is None


def _says(text: str) -> Callable[[object], Result]:
    return lambda _: Result(0, text, "")


def test_a_stack_that_was_never_installed(server: FakeHost) -> None:
    del server.nodes[credentials.PATH]
    with pytest.raises((OnPremError, CommandFailed), match="no accounts yet"):
        env.variables(server, Config(), None)
