"""PostgreSQL's major upgrade as `upgrade --check` says it, typed word for word on a host whose system went to the next release, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mlflow_onprem_sandbox import Sandbox

from tests.host import steps
from tests.host.conftest import HostFactory
from tests.host.old_stack import MADE, client, still_there

pytestmark = pytest.mark.host
PINNED = "3.17.2"
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


def guide(server: Sandbox) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(server.run(["mlflow-onprem", "upgrade", "--check", "--json"], ok=(0, 3)).out)["postgres"]
    return found


def type_in(server: Sandbox, commands: list[list[str]]) -> None:
    """As the guide prints them; the first column is what is typed."""
    for command, _ in commands:
        unattended = command.replace("sudo ", "").replace("apt-get install", "apt-get -qq --yes install")
        server.run(["sh", "-c", unattended], env=QUIET, timeout=600, ok=(0, 4) if "doctor" in command else (0,))


@pytest.mark.long  # not seen green since the modules moved
def test_the_guide_leads_there_and_back(host: HostFactory) -> None:
    server = host()
    server.write(MADE, json.dumps(client(server, "make")))
    assert guide(server) is None
    server.run(["sh", "-c", "sed -i s/bookworm/trixie/g $(find /etc/apt -name '*.list' -o -name '*.sources')"])
    server.run(["apt-get", "-qq", "update"], timeout=300)
    keep = ["-o", "Dpkg::Options::=--force-confold"]
    server.run(["apt-get", "-qq", "--yes", *keep, "install", "base-files", "postgresql-common"], env=QUIET, timeout=600)

    found = guide(server)
    assert found is not None
    assert (found["have"], found["distribution"]) == (15, 17)
    *there, last = found["steps"]
    assert last[0] == "sudo pg_dropcluster 15 main"
    type_in(server, there)
    assert server.run(["psql", "-At", "-c", "SHOW server_version_num"], user="postgres").out.startswith("17")
    assert "map=mlflow-onprem" in server.read("/etc/postgresql/17/main/pg_hba.conf").decode()
    assert server.run(["psql", "-At", "-c", "SHOW jit"], user="postgres").out.strip() == "off"
    assert steps.plan(server)[0] == 0
    still_there(server, PINNED)
    assert guide(server) is None

    type_in(server, found["back"])
    assert server.run(["psql", "-At", "-c", "SHOW server_version_num"], user="postgres").out.startswith("15")
    still_there(server, PINNED)
