"""The other releases, each with its own Python and PostgreSQL: installed, healthy, the same again, and up by itself after a reboot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import prepare, product

from tests.host import steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
#: What is tested is a host where no standalone Python can be fetched.
NO_GITHUB = {"UV_PYTHON_INSTALL_MIRROR": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("release", "python", "postgres"),
    [
        pytest.param("jammy", "3.10", "14", marks=pytest.mark.long),
        pytest.param("noble", "3.12", "16", marks=pytest.mark.long),
        ("trixie", "3.13", "17"),
    ],
)
def test_another_release(release: str, python: str, postgres: str, host: HostFactory, config: str, store: Path, say: Callable[[str], None]) -> None:
    """With nothing set, where no standalone Python can be fetched. An archive that is not reached here fails the test: a release that was
    not tried does not count as passed, and a skipped line is not read."""
    server = host(product.bootstrapped(prepare(release, on_progress=say), product.checkout(), say))
    product.configure(server, config, store)
    code, planned = steps.plan(server, env=NO_GITHUB)
    assert code == 3
    assert planned["notes"][0].startswith(f"Python {python} of this host is used: 3.11 is neither on it nor in its packages")
    result = steps.attempt(server, env=NO_GITHUB)
    assert result.code == 0, result.err
    assert f"Python {python} of this host is used" in result.err
    assert server.run(["/opt/mlflow-onprem/environments/current/bin/python", "--version"]).out.startswith(f"Python {python}.")
    assert json.loads(server.run(["mlflow-onprem", "install", "--json"], timeout=300).out)["changed"] == []
    assert server.run(["systemctl", "is-active", f"postgresql@{postgres}-main"]).out.strip() == "active"
    server.run(["mlflow-onprem", "doctor"], timeout=120)
    server.reboot()
    steps.until(lambda: steps.status(server)[0] == 0, "the stack is up after the reboot", 120)
    steps.assert_as_wanted(server)
