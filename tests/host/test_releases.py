"""The other releases, each with its own Python and PostgreSQL: installed, healthy, the same again, and up by itself after a reboot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_onprem.sandbox import prepare, product
from tests.host import steps
from tests.host.conftest import HostFactory

pytestmark = [pytest.mark.host, pytest.mark.long]


@pytest.mark.parametrize(("release", "python", "postgres"), [("jammy", "3.10", "14"), ("noble", "3.12", "16"), ("trixie", "3.13", "17")])
def test_another_release(release: str, python: str, postgres: str, host: HostFactory, config: str, store: Path, say: Callable[[str], None]) -> None:
    server = host(product.bootstrapped(prepare(release, on_progress=say), product.checkout(), say))
    wanted = f'{config}\n[mlflow]\npython = "{python}"\n'
    product.install(server, wanted, say, store=store)
    assert json.loads(server.run(["mlflow-onprem", "install", "--json"], timeout=300).out)["changed"] == []
    assert server.run(["systemctl", "is-active", f"postgresql@{postgres}-main"]).out.strip() == "active"
    server.run(["mlflow-onprem", "doctor"], timeout=120)
    server.reboot()
    steps.until(lambda: steps.status(server)[0] == 0, "the stack is up after the reboot", 120)
    steps.assert_as_wanted(server)
