"""What is read of a host before anything is decided."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_onprem.core.errors import Refused
from mlflow_onprem.core.host import Result
from mlflow_onprem.settings import facts
from mlflow_onprem.settings.facts import Facts
from tests.fake_machine import config
from tests.fakes import FakeHost

FIXTURES = Path(__file__).parent / "fixtures"


def machine(codename: str = "bookworm", arch: str = "x86_64", policy: str = "") -> FakeHost:
    host = FakeHost()
    if (FIXTURES / f"os-release-{codename}.txt").exists():
        host.put("/etc/os-release", (FIXTURES / f"os-release-{codename}.txt").read_text())
    host.put("/proc/meminfo", (FIXTURES / "meminfo.txt").read_text())
    host.put("/proc/cpuinfo", "processor\t: 0\nmodel name\t: x\n\nprocessor\t: 1\n")
    host.script(["uname", "-m"], out=f"{arch}\n")
    host.script(["hostname", "-I"], out="10.0.0.5 fe80::1 fd00::5 \n")
    host.programs["apt-cache"] = lambda _: Result(0, policy, "")
    return host


def gather(host: FakeHost, *, wanted: int | None = None, port: int = 5432) -> Facts:
    return facts.gather(host, config({"mlflow": {"python": "3.11"}, "postgres": {"version": wanted, "port": port}}))


@pytest.mark.parametrize(("codename", "version"), facts.DISTRIBUTION_POSTGRES.items())
def test_an_empty_host(codename: str, version: int) -> None:
    found = gather(machine(codename))
    assert (found.codename, found.postgres_version, found.postgres_shared) == (codename, version, False)
    assert (found.architecture, found.cores) == ("amd64", 2)
    assert "10.0.0.5" in found.names
    assert "fd00::5" in found.names
    assert not any(name.startswith("fe80") or name == "localhost" for name in found.names)


def test_machines_this_cannot_work_on() -> None:
    with pytest.raises(Refused, match="this machine is riscv64"):
        gather(machine(arch="riscv64"))
    with pytest.raises(Refused, match=r"Ubuntu 22.04 and 24.04, Debian 12 and 13 are supported"):
        gather(machine("unknown"))
    assert gather(machine("unknown"), wanted=16).postgres_version == 16
    assert gather(machine(arch="aarch64")).architecture == "arm64"


def test_a_cluster_that_is_there_is_used_and_not_ours() -> None:
    host = machine()
    host.put("/etc/postgresql/14/main/postgresql.conf", "port = 5432\n")
    host.put("/etc/postgresql/17/main/postgresql.conf", "port = 5433\n")
    assert (gather(host).postgres_version, gather(host).postgres_shared) == (14, True)
    assert gather(host, port=5433).postgres_version == 17
    assert gather(host, wanted=17).postgres_shared is False
    host.put(facts.CLUSTER_NOTE, "ours\n")
    assert gather(host).postgres_shared is False


@pytest.mark.parametrize(
    ("there", "policy", "python"),
    [
        ("Python 3.11.2\n", "", "/usr/bin/python3.11"),
        ("Python 3.11.0rc1\n", "apt-cache-policy-rc", "uv"),
        (None, "apt-cache-policy-rc", "uv"),
        (None, "apt-cache-policy-none", "uv"),
        (None, "apt-cache-policy-unknown", "uv"),
        (None, "apt-cache-policy-python", "apt"),
    ],
)
def test_where_python_comes_from(there: str | None, policy: str, python: str) -> None:
    host = machine(policy=(FIXTURES / f"{policy}.txt").read_text() if policy else "")
    if there is not None:
        host.put("/usr/bin/python3.11", "", 0o755)
        host.script(["/usr/bin/python3.11", "--version"], out=there)
    assert gather(host).python == python


@pytest.mark.parametrize(("privileges", "found"), [("0", False), ("1", True)])
def test_a_timers_own_sandboxing_is_not_taken_for_the_kernels(privileges: str, found: bool) -> None:
    """The rotation's service may make no namespaces: it took that for the host, and restarted MLflow and the store without PrivateUsers."""
    host = FakeHost()
    host.put("/proc/self/status", f"Name:\tpython\nNoNewPrivs:\t{privileges}\nSeccomp:\t2\n")
    host.script(["unshare", "--user", "--map-root-user", "true"], code=1)
    assert facts.private_users(host) is found
