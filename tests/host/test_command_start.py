"""The command on hosts where it cannot start, or could start for root alone: `bootstrap` and the start itself say so, and the way out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, product

from tests.host.conftest import HostFactory
from tests.host.steps import ANY

pytestmark = pytest.mark.host

BOOTSTRAP = f"{product.INSIDE}/bootstrap"
PYTHON = "/opt/mlflow-onprem/cli/bin/python"


@pytest.fixture(scope="module")
def server(module_host: HostFactory, bootstrapped: Layer) -> Sandbox:
    return module_host(bootstrapped)


@pytest.fixture
def without_programs(server: Sandbox) -> Iterator[Sandbox]:
    """/opt is mounted noexec."""
    server.run(["mount", "--bind", "/opt", "/opt"])
    server.run(["mount", "-o", "remount,bind,noexec", "/opt"])
    yield server
    server.run(["umount", "/opt"])


def test_the_start_of_the_command_costs_next_to_nothing(server: Sandbox) -> None:
    """The shell in front of Python is a millisecond or two; the first word of the help is still the command's name."""
    assert "Usage: mlflow-onprem status" in server.run(["mlflow-onprem", "status", "--help"]).out
    assert server.run(["head", "-n1", "/usr/local/bin/mlflow-onprem"]).out == "#!/bin/sh\n"


def test_noexec_is_named_by_bootstrap_and_by_the_command(without_programs: Sandbox) -> None:
    for argv in ([BOOTSTRAP], ["mlflow-onprem", "install"]):
        said = without_programs.run(argv, ok=(1,))
        assert "/opt is mounted noexec" in said.err, argv
        assert "remount,exec /opt" in said.err, argv
        assert "Traceback" not in said.out + said.err, argv
        assert "in place" not in said.out, argv


def test_success_is_claimed_only_where_others_can_run_it(server: Sandbox) -> None:
    server.run(["chmod", "0750", "/opt"])
    said = server.run([BOOTSTRAP], ok=(1,))
    assert "other accounts may not enter /opt" in said.err
    assert "chmod a+rx /opt" in said.err
    assert "in place: nothing to do" not in said.out
    assert "this account may not enter /opt" in server.run(["mlflow-onprem", "status"], user="nobody", ok=(1,)).err
    server.run(["chmod", "0755", "/opt"])
    assert "nothing to do" in server.run([BOOTSTRAP]).out
    server.run(["mlflow-onprem", "--version"], user="nobody")


def test_a_python_under_roots_home_is_not_taken(server: Sandbox) -> None:
    """First in root's PATH, as pyenv, conda and uv put theirs, and with root's own PYTHONHOME and PYTHONPATH."""
    own = server.run(["readlink", "-f", PYTHON]).out
    server.run(["mkdir", "-p", "/root/.pyenv/shims"])
    server.run(["cp", own.strip(), "/root/.pyenv/shims/python3"])
    server.run(["cp", own.strip(), "/root/.pyenv/shims/python3.12"])
    server.run(["rm", "/opt/mlflow-onprem/cli/made-from"])
    path = "/root/.pyenv/shims:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    server.run([BOOTSTRAP], env={"PATH": path, "PYTHONHOME": "/root/.pyenv", "PYTHONPATH": "/root/.pyenv"}, timeout=600)
    assert server.run(["readlink", "-f", PYTHON]).out == own
    server.run(["mlflow-onprem", "--version"], user="nobody")


def test_a_sandbox_on_an_overlay_is_refused_in_a_sentence(server: Sandbox) -> None:
    """The root of this host is one, as a container's and a live system's is; nothing is fetched before that is said."""
    said = server.run(["mlflow-onprem", "sandbox", "up"], ok=(1,), timeout=120)
    assert "no sandbox can be kept in /var/lib/mlflow-onprem-sandbox: it is itself on an overlay" in said.err
    assert "MLFLOW_ONPREM_SANDBOX_DIR=" in said.err
    assert "mount -t overlay" not in said.err
    assert "apt" not in said.err
    check = "from pathlib import Path; from mlflow_onprem.system.local_host import LocalHost; from mlflow_onprem_sandbox import place; "
    python = "/opt/mlflow-onprem/cli/bin/python"
    server.run([python, "-I", "-c", f"{check}place.check(LocalHost(), Path('/tmp/sandboxes'))"])  # a filesystem of its own
    assert server.run(["ls", "-A", "/tmp/sandboxes", "/var/lib/mlflow-onprem-sandbox"], ok=ANY).out.count(".trial") == 0


def test_a_python_that_a_release_upgrade_took_is_named_with_the_way_back(server: Sandbox) -> None:
    """Debian 13 has no Python 3.11; the test of a whole upgrade is test_release_upgrade.py."""
    python = server.run(["readlink", "-f", PYTHON]).out.strip()
    server.run(["mv", python, f"{python}.gone"])
    said = server.run(["mlflow-onprem", "status"], ok=ANY)
    server.run(["mv", f"{python}.gone", python])
    assert said.code == 1
    assert f"the Python that it was made with ({python}) is gone; this host runs Debian GNU/Linux 12" in said.err
    assert "sudo /opt/mlflow-onprem/cli/checkout/bootstrap; then: sudo mlflow-onprem install" in said.err
    assert "not found" not in said.err
