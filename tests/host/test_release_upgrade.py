"""A host that is upgraded in place to the distribution's next release: its Python goes, and the command says so; all runs come back."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, prepare, product

from mlflow_onprem.core.errors import OnPremError
from tests.host import rest, steps
from tests.host.conftest import HostFactory

pytestmark = [pytest.mark.host, pytest.mark.long]
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
KEEP = ("-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Options::=--force-unsafe-io")


def apt(server: Sandbox, *words: str) -> None:
    server.run(["apt-get", "-qq", "--yes", *KEEP, *words], env=QUIET, timeout=2400)


def layer_of(release: str, say: Callable[[str], None]) -> Layer:
    """That release with the command on it. Where its archive is not reached, the test says so and does not count as passed."""
    try:
        return product.bootstrapped(prepare(release, on_progress=say), product.checkout(), say)
    except OnPremError as failed:
        pytest.skip(f"not tried: {failed.message}")


@pytest.mark.parametrize(
    ("old", "new", "python", "next_python", "postgres"), [("bookworm", "trixie", "3.11", "3.13", "15"), ("jammy", "noble", "3.10", "3.12", "14")]
)
def test_an_upgrade_in_place(
    old: str,
    new: str,
    python: str,
    next_python: str,
    postgres: str,
    host: HostFactory,
    config: str,
    store: Path,
    say: Callable[[str], None],
) -> None:
    server = host(layer_of(old, say))
    product.install(server, f'{config}\n[mlflow]\npython = "{python}"\n', say, store=store)
    logged = [rest.log(server) for _ in range(3)]

    server.run(["sh", "-c", f"sed -i s/{old}/{new}/g $(find /etc/apt -name '*.list' -o -name '*.sources')"])
    for words in (("update",), ("upgrade", "--without-new-pkgs"), ("full-upgrade",), ("autoremove",)):
        apt(server, *words)
    assert server.run(["test", "-e", f"/usr/bin/python{python}"], ok=(0, 1)).code == 1
    server.reboot()

    said = server.run(["mlflow-onprem", "status"], ok=(1,))
    assert re.search(rf"the Python that it was made with \(/usr/bin/python{re.escape(python)}\) is gone; this host runs .* now", said.err)
    command = re.search(r"what next: sudo (\S+/bootstrap); then: sudo mlflow-onprem install", said.err)
    assert command, said.err
    server.run([command[1]], timeout=900)
    assert server.run(["readlink", "-f", "/opt/mlflow-onprem/cli/bin/python"]).out.strip() == f"/usr/bin/python{next_python}"
    assert steps.status(server)[1]["services"][2]["healthy"] is False  # MLflow's own environment had the old Python, too

    steps.install(server, f'{config}\n[mlflow]\npython = "{next_python}"\n')
    assert all(rest.is_there(server, each) for each in logged)
    assert rest.is_there(server, rest.log(server))
    # PostgreSQL stays what it was until somebody upgrades it: `upgrade --check` prints how (test_postgres_upgrade.py).
    assert server.run(["systemctl", "is-active", f"postgresql@{postgres}-main"]).out.strip() == "active"
    assert server.run(["mlflow-onprem", "doctor"], ok=steps.ANY, timeout=300).code == 0
    steps.assert_as_wanted(server)
    server.reboot()
    steps.until(lambda: steps.status(server)[0] == 0, "the stack is up after the reboot", 180)
