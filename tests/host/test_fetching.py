"""Fetching on hosts as companies have them: failing and silent sources, pins, holds, an authority of one's own, pip and uv configured for others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import trustme
from mlflow_onprem_sandbox import Layer, Sandbox, product

from mlflow_onprem.core.host import Result
from tests.host import steps
from tests.host.conftest import HostFactory
from tests.host.fetch_web import wheel

pytestmark = pytest.mark.host
WEB = Path(__file__).with_name("fetch_web.py")
SECONDS = {"MLFLOW_ONPREM_STALL_SECONDS": "4"}
SOURCES = {
    "cdrom": "deb cdrom:[Debian 12]/ bookworm main\n",
    "gone": "deb http://127.0.0.1:1/debian nowhere main\n",
    "silent": "deb [trusted=yes] http://127.0.0.1:8077/silent stable main\n",
}
#: What the host's own command does, on a small package: the resource itself, with the host's own apt and uv.
APPLY = """
import json, sys
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.resources.environment import Environment, EnvironmentState
from mlflow_onprem.resources.packages import AptPackages, AptPackagesState
from uv import find_uv_bin
host, said = LocalHost(), []
host.on_say = said.append
what = json.loads(sys.stdin.read())
if "package" in what:
    made = AptPackages((what["package"],), AptPackagesState(frozenset([what["package"]])), clock=lambda: 4e9)
else:
    made = Environment("/opt/tiny", "/usr/bin/python3.11", what["requirements"], EnvironmentState("key"), uv=find_uv_bin())
try:
    made.apply(host, None)
    print(json.dumps({"said": said, "error": None}))
except OnPremError as failed:
    print(json.dumps({"said": said, "error": [failed.message, failed.hint, failed.output]}))
"""
PIP_CONF = """\
[global]
index-url = https://index.example:8443/simple
user = true
target = /srv/elsewhere
no-binary = :all:
"""
UV_TOML = """\
no-index = true
[pip]
target = "/srv/elsewhere"
no-binary = [":all:"]
"""
#: Variables of the tests' own machine that name certificates: a host in a company has none of them.
CERTIFICATES = (
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "PIP_FIND_LINKS",
    "UV_FIND_LINKS",
    "UV_CACHE_DIR",
)


@pytest.fixture(scope="module")
def server(module_host: HostFactory, bootstrapped: Layer, config: str, store: Path) -> Sandbox:
    """A server with the command on it and nothing installed."""
    made = module_host(bootstrapped)
    product.configure(made, config, store)
    made.push(WEB, "/root/fetch_web.py")
    return made


def apply(server: Sandbox, **what: str) -> tuple[list[str], str]:
    """What was said, and the failure in one text, empty where there was none."""
    unset = [word for name in CERTIFICATES for word in ("-u", name)]
    argv = ["env", *unset, "/opt/mlflow-onprem/cli/bin/python", "-I", "-c", APPLY]
    # uv itself rests for some seconds between its tries.
    seconds = SECONDS if "package" in what else {"MLFLOW_ONPREM_STALL_SECONDS": "20"}
    answer = json.loads(server.run(argv, stdin=json.dumps(what), env=seconds, timeout=600).out)
    return answer["said"], "\n".join(answer["error"] or [])


@pytest.mark.long  # not seen green since the modules moved
def test_pins_are_refused_before_the_first_change(server: Sandbox) -> None:
    """In apt's own words, with the file; preflight sees them."""
    server.run(["apt-get", "-q", "update"], timeout=600)
    server.write("/etc/apt/preferences.d/no-databases", "Package: postgresql-*\nPin: release *\nPin-Priority: -1\n")
    try:
        result: Result = steps.attempt(server)
    finally:
        server.run(["rm", "/etc/apt/preferences.d/no-databases"])
    assert result.code == 1
    for word in ("apt cannot install postgresql-15", "E: ", "a pin forbids postgresql-15: look into /etc/apt/preferences.d/no-databases"):
        assert word in result.err, result.err
    assert server.run(["test", "-e", "/var/lib/mlflow-onprem/packages-before"], ok=(0, 1)).code == 1


@pytest.mark.long  # not seen green since the modules moved
def test_a_hold_is_told_with_apts_own_reason(server: Sandbox) -> None:
    """The same for a package that is held back."""
    server.run(["apt-mark", "hold", "libpq5"])
    try:
        result = steps.attempt(server)
    finally:
        server.run(["apt-mark", "unhold", "libpq5"])
    assert result.code == 1
    for word in ("apt cannot install postgresql-15", "libpq5", "sudo apt-mark unhold libpq5"):
        assert word in result.err, result.err


@pytest.mark.long
def test_sources_that_fail_or_fall_silent_stop_nothing(server: Sandbox) -> None:
    """Each is named with its file or apt's line, and the package that the others have is installed."""
    steps.python_in(server, "silent", ["/root/fetch_web.py", "silent"], 8077)
    for names, package, words in (
        (("cdrom", "gone"), "hello", ("cdrom://",)),
        (("silent",), "bc", ("silent.list: ", "it waited for 127.0.0.1:8077")),
    ):
        for name in names:
            server.write(f"/etc/apt/sources.list.d/{name}.list", SOURCES[name])
        said, error = apply(server, package=package)
        server.run(["sh", "-c", "rm /etc/apt/sources.list.d/*.list"])
        assert error == ""
        for word in (*words, "every package that is needed is known all the same"):
            assert word in "\n".join(said), said
        assert server.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", package]).out.strip() == "ii"
    # Nothing of apt's runs on.
    assert server.run(["pgrep", "-x", "apt-get|http"], ok=(0, 1)).out == ""


@pytest.mark.long
def test_a_silent_server_is_named_where_nobody_else_has_the_package(server: Sandbox) -> None:
    server.run(["sh", "-c", "mv /etc/apt/sources.list /root/kept.list; rm -rf /var/lib/apt/lists/*"])
    server.write("/etc/apt/sources.list", SOURCES["silent"])
    said, error = apply(server, package="sl")
    server.run(["mv", "/root/kept.list", "/etc/apt/sources.list"])
    assert "got nothing for 4 seconds and was ended" in error
    assert "it waited for 127.0.0.1:8077" in error
    assert any("fetching the lists of each file of sources by itself" in each for each in said)


@pytest.mark.long
def test_the_systems_authorities_count_for_uv_and_what_breaks_an_environment_does_not(server: Sandbox) -> None:
    """An index inside the company, named in /etc/pip.conf, with a certificate of the company's authority."""
    authority = trustme.CA()
    certificate = authority.issue_cert("index.example")
    chain = certificate.private_key_pem.bytes() + b"".join(each.bytes() for each in certificate.cert_chain_pems)
    server.write("/root/index.pem", chain)
    server.run(["sh", "-c", "echo 127.0.0.1 index.example >> /etc/hosts"])
    server.write("/etc/pip.conf", PIP_CONF)
    server.write("/etc/uv/uv.toml", UV_TOML)
    steps.python_in(server, "index", ["/root/fetch_web.py", "index"], 8443)
    lock = f"tiny==1.0 --hash=sha256:{hashlib.sha256(wheel()).hexdigest()}\n"
    _, error = apply(server, requirements=lock)
    assert "its certificate is signed by an authority that this host does not know" in error
    assert "update-ca-certificates" in error
    server.write("/usr/local/share/ca-certificates/company.crt", authority.cert_pem.bytes())
    server.run(["update-ca-certificates"], timeout=120)
    _, error = apply(server, requirements=lock)
    assert error == ""
    server.run(["/opt/tiny/bin/python", "-c", "import tiny; assert tiny.__file__.startswith('/opt/tiny/')"])
    assert server.run(["test", "-e", "/srv/elsewhere"], ok=(0, 1)).code == 1
    server.run(["systemctl", "stop", "index"])
    _, error = apply(server, requirements=lock)
    assert "the connection was refused" in error


@pytest.mark.long
def test_bootstrap_on_such_a_host(host: HostFactory, base: Layer) -> None:
    """A silent source, pip configured for others, PYTHONPATH set: the command is in place all the same."""
    bare = host(base)
    bare.push(WEB, "/root/fetch_web.py")
    bare.run(["apt-get", "-q", "update"], timeout=600)
    bare.run(["apt-get", "-q", "-y", "install", "--no-install-recommends", "python3-minimal", "libpython3-stdlib"], timeout=600)
    steps.python_in(bare, "silent", ["/root/fetch_web.py", "silent"], 8077)
    for name, line in SOURCES.items():
        bare.write(f"/etc/apt/sources.list.d/{name}.list", line)
    bare.run(["sh", "-c", "rm -rf /var/lib/apt/lists/*"])
    bare.write("/etc/pip.conf", PIP_CONF.replace("index-url = https://index.example:8443/simple\n", ""))
    bare.write("/srv/broken/sitecustomize.py", "raise SystemExit('this must not be imported')\n")
    product.put(bare, product.checkout())
    result = bare.run([f"{product.INSIDE}/bootstrap"], env={**SECONDS, "PYTHONPATH": "/srv/broken"}, timeout=900)
    assert "/etc/apt/sources.list.d/silent.list fails: nothing came for 4 seconds" in result.err
    assert "is in place. Next: sudo mlflow-onprem install" in result.out
    assert bare.run(["test", "-e", "/srv/elsewhere"], ok=(0, 1)).code == 1
