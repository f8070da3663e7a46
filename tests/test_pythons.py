"""Which Python MLflow's environment gets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlflow_onprem.core.host import Host, Result
from mlflow_onprem.system import pythons
from mlflow_onprem.system.pythons import Choice, choose
from tests.fakes import Call, FakeHost

CANDIDATE = "python{0}:\n  Installed: (none)\n  Candidate: {1}\n"


def machine(*there: str, offered: dict[str, str] | None = None, own: str = "") -> FakeHost:
    """A host with these interpreters, these in its packages, and `python3` as this one."""
    host = FakeHost()
    for version in there:
        host.put(f"/usr/bin/python{version.removesuffix('rc1')}", "", 0o755)
        host.script([f"/usr/bin/python{version.removesuffix('rc1')}", "--version"], out=f"Python {version.removesuffix('rc1')}.1{version[4:]}\n")
    if own:
        host.symlink("/usr/bin/python3", f"python{own}")

    def cache(call: Call) -> Result:
        version = call.argv[-1].removeprefix("python")
        found = (offered or {}).get(version)
        return Result(0, CANDIDATE.format(version, found) if found else "", "")

    host.programs["apt-cache"] = cache
    return host


def can(_: Host, __: str) -> str:
    return ""


def cannot(_: Host, __: str) -> str:
    return "no DNS"


def never(_: Host, __: str) -> str:
    raise AssertionError("asked the network for nothing")


@pytest.mark.parametrize(
    ("host", "network", "expected"),
    [
        (machine("3.11", "3.13", own="3.11"), never, ("3.11", "/usr/bin/python3.11")),
        (machine("3.12", offered={"3.11": "3.11.2-6"}, own="3.12"), never, ("3.11", "apt")),
        (machine("3.12", own="3.12"), can, ("3.11", "uv")),
        (machine("3.10", "3.11rc1", offered={"3.11": "3.11.0~rc1-1"}, own="3.10"), cannot, ("3.10", "/usr/bin/python3.10")),
        (machine("3.10", "3.12", own="3.12"), cannot, ("3.12", "/usr/bin/python3.12")),
        (machine("3.12", own="3.14"), cannot, ("3.12", "/usr/bin/python3.12")),
        (machine(offered={"3.13": "3.13.5-2"}), cannot, ("3.13", "apt")),
        (machine(), cannot, ("3.11", "uv")),
    ],
    ids=["its own 3.11", "packages", "fetched", "jammy without GitHub", "python3 first", "python3 too new", "no python yet", "nothing at all"],
)
def test_auto(host: FakeHost, network: Callable[[Host, str], str], expected: tuple[str, str]) -> None:
    found = choose(host, "auto", network)
    assert (found.version, found.source) == expected
    if found.version != "3.11":
        assert found.why.startswith(f"Python {found.version} of this host is used: 3.11 is neither on it nor in its packages")
        assert "no DNS" in found.why
    else:
        assert found.why == ""


def test_a_version_that_is_configured_is_taken_wherever_it_comes_from() -> None:
    assert choose(machine("3.11", "3.12"), "3.12", never) == Choice("3.12", "/usr/bin/python3.12")
    assert choose(machine("3.11", offered={"3.13": "3.13.5"}), "3.13", never) == Choice("3.13", "apt")
    assert choose(machine("3.11"), "3.10", never) == Choice("3.10", "uv")


@pytest.mark.parametrize(
    ("home", "version", "source"), [("/usr/bin", "3.12", "/usr/bin/python3.12"), (f"{pythons.FETCHED}/cpython/bin", "3.11", "uv")]
)
def test_a_host_keeps_what_it_has(home: str, version: str, source: str) -> None:
    """The default changed from 3.11 to auto: no environment is rebuilt for it, and a network that comes or goes changes nothing."""
    host = machine("3.10", "3.12", own="3.10")
    host.put(f"{pythons.CURRENT}/pyvenv.cfg", f"home = {home}\nimplementation = CPython\nversion_info = {version}.7\n")
    host.put(f"{home}/python{version}", "", 0o755)
    assert choose(host, "auto", never) == Choice(version, source)


def test_one_that_a_distribution_upgrade_took_is_chosen_anew() -> None:
    host = machine("3.13", own="3.13")
    host.put(f"{pythons.CURRENT}/pyvenv.cfg", "home = /usr/bin\nversion = 3.11.2\n")
    assert choose(host, "auto", cannot).source == "/usr/bin/python3.13"


def test_a_host_without_a_network_asks_it_for_nothing() -> None:
    host = machine("3.12", own="3.12")
    host.put("/opt/mlflow-onprem/bundle/manifest.json", '{"python": "3.12"}')
    found = choose(host, "auto", never)
    assert (found.version, found.source) == ("3.12", "/usr/bin/python3.12")
    assert "installed from a bundle" in found.why
