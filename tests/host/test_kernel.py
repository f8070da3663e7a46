"""Kernels and containers that allow less than our units ask for: what can be left out is, with a finding; what cannot is refused, and named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, product

from tests.host import steps

pytestmark = pytest.mark.host

Less = Callable[[str, Layer], Sandbox]
#: As systemd starts programs, so that what its kernel refuses to it is refused to them, too.
INSIDE = ("systemd-run", "--quiet", "--wait", "--pipe", "--collect")


@pytest.fixture
def less() -> Iterator[Less]:
    """Hosts under a kernel that allows less."""
    names = []

    def make(kind: str, layer: Layer) -> Sandbox:
        names.append(f"t{os.getpid()}-kernel-{kind}")
        subprocess.run([sys.executable, "-m", "tests.host.less_kernel", kind, names[-1], layer.key], cwd=Path(__file__).parents[2], check=True)
        found = Sandbox.find(names[-1])
        assert found is not None
        return found

    yield make
    for name in names:
        Sandbox.discard(name)


def test_without_user_namespaces_one_line_is_left_out_and_said(less: Less, installed: Layer) -> None:
    """A host whose kernel lost them after the installation (hardening switches them off), then installed again."""
    server = less("user", installed)

    def says_why() -> bool:
        said = server.run(["mlflow-onprem", "status"], ok=(4,)).out
        return "this host makes no user namespaces, and the unit asks for one (PrivateUsers) (217/USER)" in said

    steps.until(says_why, "status says why")
    assert "Next: sudo mlflow-onprem install leaves that one line out" in server.run(["mlflow-onprem", "status"], ok=(4,)).out
    said = server.run([*INSIDE, "mlflow-onprem", "install"], timeout=600)
    assert "warning: this host makes no user namespaces: the services run without PrivateUsers" in said.out
    for unit in ("minio.service", "mlflow.service"):
        assert steps.show(server, unit, "PrivateUsers", "ProtectSystem", "NoNewPrivileges") == {
            "PrivateUsers": "no",
            "ProtectSystem": "strict",
            "NoNewPrivileges": "yes",
        }
    assert "No changes" in server.run([*INSIDE, "mlflow-onprem", "plan"]).out
    assert "sandboxing             this host makes no user namespaces" in server.run([*INSIDE, "mlflow-onprem", "doctor"], ok=(0, 4), timeout=300).out
    server.run([*INSIDE, "mlflow-onprem", "uninstall", "--yes"], timeout=300)
    assert server.run(["ls", "/etc/systemd/system/minio.service.d", "/etc/systemd/system/mlflow.service.d"], ok=steps.ANY).out == ""


def test_a_container_that_may_not_nest_is_refused_before_the_first_change(less: Less, bootstrapped: Layer, config: str, store: Path) -> None:
    server = less("mount", bootstrapped)
    product.configure(server, config, store)
    server.write("/run/systemd/container", "lxc")
    before = server.run(["find", "/etc", "/opt", "/var/lib/mlflow-onprem", "/var/lib/dpkg", "-newer", product.CONFIG]).out
    said = steps.attempt(server)
    assert said.code == 1
    assert "this host is a container (lxc)" in said.err
    assert "(226/NAMESPACE)" in said.err
    assert "pct set ID --features nesting=1" in said.err
    assert server.run(["find", "/etc", "/opt", "/var/lib/mlflow-onprem", "/var/lib/dpkg", "-newer", product.CONFIG]).out == before
    # The same host, and dpkg could not run a package's scripts either.
    server.run(["mount", "--bind", "/var", "/var"])
    server.run(["mount", "-o", "remount,bind,noexec", "/var"])
    assert "/var is mounted noexec: no program there may run, and dpkg cannot run the scripts of a package then" in steps.attempt(server).err
    server.run(["umount", "/var"])
