"""`gc`: what users deleted leaves the database and the bucket for good, and nothing else does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mlflow_onprem_sandbox import Sandbox
from mlflow_onprem_sandbox.process import wait_until

from mlflow_onprem.core.host import Result
from tests.host import steps
from tests.host.conftest import HostFactory
from tests.host.old_stack import client

pytestmark = pytest.mark.host
MANY = 1100  # more than S3 lists, or deletes, at once


def gc(server: Sandbox, *options: str, ok: tuple[int, ...] = (0,)) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(server.run(["mlflow-onprem", "gc", "--json", *options], ok=ok, timeout=300).out)
    return answer


def objects(server: Sandbox) -> dict[str, int]:
    """How many objects are below each folder of the bucket, two levels deep."""
    found: dict[str, int] = {}
    for line in server.run(["find", "/opt/minio/data/mlflow", "-name", "xl.meta", "-printf", "%P\n"]).out.splitlines():
        folder = "/".join(line.split("/")[:2])
        found[folder] = found.get(folder, 0) + 1
    return found


def rows(server: Sandbox, statement: str) -> list[str]:
    return server.run(["psql", "-At", "-d", "mlflow", "-c", statement], user="postgres").out.splitlines()


def test_what_was_deleted_leaves_and_nothing_else(host: HostFactory) -> None:
    server = host()
    made = client(server, "litter", str(MANY))
    before = objects(server)
    assert before[f"{made['keep']}/{made['many']}"] == MANY
    assert gc(server)["removed"] == {}, "deleted a moment ago, and the default keeps 30 days"

    expected = {"run": 4, "logged model": 2, "experiment": 1}
    would = gc(server, "--dry-run", "--older-than", "0s")
    assert would["removed"] == expected
    assert objects(server) == before

    done = gc(server, "--older-than", "0s")
    assert done["removed"] == expected
    assert (done["objects"], done["bytes"]) == (would["objects"], would["bytes"])
    assert done["bytes"] > (MANY + 5 + 4) * 1000
    assert [(each["id"], "registered model used version 1" in each["why"]) for each in done["kept"]] == [(made["registered"], True)]
    keep = made["keep"]
    assert objects(server) == {f"{keep}/{made['live']}": 3, f"{keep}/{made['registered']}": 2}
    assert sorted(rows(server, "SELECT run_uuid FROM runs")) == sorted([made["live"], made["registered"]])
    assert rows(server, "SELECT experiment_id FROM experiments ORDER BY 1") == ["0", keep]
    assert rows(server, "SELECT (SELECT count(*) FROM trace_info), (SELECT count(*) FROM logged_models)") == ["0|0"]
    again = gc(server, "--older-than", "0s")
    assert (again["removed"], again["bytes"]) == ({}, 0)


def test_a_store_that_is_away_costs_no_row(host: HostFactory) -> None:
    server = host()
    made = client(server, "litter")
    server.run(["systemctl", "stop", "minio.service"])
    found = gc(server, "--older-than", "0s", ok=(1,))
    assert {each["id"] for each in found["failed"]} >= {made["dead"], made["many"]}
    assert made["dead"] in rows(server, "SELECT run_uuid FROM runs")
    server.run(["systemctl", "start", "minio.service"], timeout=120)
    assert gc(server, "--older-than", "0s")["removed"]["run"] == 4


@pytest.mark.long  # not seen green since the modules moved
def test_it_lets_a_backup_in_progress_end_first(host: HostFactory) -> None:
    server = host()
    server.run(["systemd-run", "--quiet", "--unit=holder", "flock", "/run/mlflow-onprem-backup.lock", "sleep", "600"])
    held = ["flock", "--nonblock", "/run/mlflow-onprem-backup.lock", "true"]
    wait_until(lambda: server.run(held, ok=(0, 1)).code == 1, 10, "nobody holds the lock")
    refused = server.run(["mlflow-onprem", "gc"], ok=(1,))
    assert "another command works on backups or stored data" in refused.err
    waiting = server.popen(["mlflow-onprem", "gc", "--wait", "2m", "--json"])
    assert waiting.poll() is None
    server.run(["systemctl", "stop", "holder.service"])
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, json.loads(out)["removed"]) == (0, {}), err


@pytest.mark.long  # not seen green since the modules moved
def test_the_timer_comes_and_goes_with_its_setting(host: HostFactory, config: str) -> None:
    server = host()
    made = client(server, "litter")
    with_timer = f'{config}\n[gc]\nevery = "weekly"\nolder_than = "0m"\n'
    steps.install(server, with_timer)
    assert server.run(["systemctl", "is-active", "mlflow-onprem-gc.timer"]).out.strip() == "active"
    assert "Sun" in server.run(["systemctl", "show", "mlflow-onprem-gc.timer", "--property=TimersCalendar"]).out
    assert steps.plan(server)[0] == 0
    server.run(["systemctl", "start", "mlflow-onprem-gc.service"], timeout=180)
    assert made["dead"] not in rows(server, "SELECT run_uuid FROM runs")
    assert "Removed 4 runs" in server.journal("-u", "mlflow-onprem-gc.service", "-o", "cat")
    assert server.run(["systemd-analyze", "security", "mlflow-onprem-gc.service", "--threshold=35"], ok=steps.ANY).code == 0
    steps.install(server, config)
    gone: Result = server.run(["systemctl", "cat", "mlflow-onprem-gc.timer"], ok=(0, 1))
    assert gone.code == 1
    assert steps.plan(server)[0] == 0


@pytest.mark.long  # not seen green since the modules moved
def test_nobody_but_root_and_no_nonsense(host: HostFactory) -> None:
    server = host()
    assert "sudo" in server.run(["mlflow-onprem", "gc"], user="nobody", ok=(1,)).err
    wrong = server.run(["mlflow-onprem", "gc", "--older-than", "soon"], ok=(2,))
    assert "30d" in wrong.err
