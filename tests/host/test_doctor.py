"""`doctor` leaves nothing behind on a healthy host, and names what is broken with the command that fixes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from mlflow_onprem_sandbox import Sandbox

from tests.host import rest, steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
#: Tables in which an examination makes rows.
TABLES = ("experiments", "runs", "metrics", "latest_metrics", "params", "registered_models", "model_versions", "trace_info", "spans", "tags")


@pytest.fixture(scope="module")
def server(module_host: HostFactory) -> Sandbox:
    """An installed host."""
    return module_host()


def examine(server: Sandbox) -> tuple[int, dict[str, Any]]:
    """Exit status and answer of `doctor`."""
    result = server.run(["mlflow-onprem", "doctor", "--json"], ok=(0, 4), timeout=180)
    return result.code, json.loads(result.out)


def rows(server: Sandbox) -> dict[str, str]:
    return {table: steps.psql(server, f"SELECT count(*) FROM {table}", "mlflow") for table in TABLES}


def objects(server: Sandbox) -> list[str]:
    return sorted(server.run(["find", "/opt/minio/data/mlflow", "-name", "xl.meta"]).out.split())


def test_a_healthy_host_is_found_healthy_and_nothing_is_left(server: Sandbox) -> None:
    kept = rest.log(server)
    before = rows(server), objects(server)
    code, answer = examine(server)
    bad = [each for each in answer["findings"] if each["level"] == "error"]
    assert (code, answer["healthy"], bad) == (0, True, [])
    named = [each["check"] for each in answer["findings"] if each["level"] == "ok"]
    for check in (
        "service",
        "run",
        "metrics",
        "artifact",
        "model version",
        "trace",
        "clean-up",
        "default account",
        "foreign name",
        "no account",
        "ports",
        "tables",
    ):
        assert check in named
    assert (rows(server), objects(server)) == before
    assert rest.is_there(server, kept)


def test_what_a_killed_examination_left_is_swept_up(server: Sandbox) -> None:
    door = rest.door(server)
    name = "mlflow-onprem-doctor-0123456789ab"
    left = door.call("POST", "experiments/create", {"name": name})["experiment_id"]
    door.call("POST", "registered-models/create", {"name": name})
    steps.psql(server, f"UPDATE experiments SET creation_time = creation_time - 3600000 WHERE experiment_id = {left}", "mlflow")
    code, answer = examine(server)
    assert code == 0
    assert "left by an earlier examination" in next(each["what"] for each in answer["findings"] if each["check"] == "clean-up")
    assert steps.psql(server, f"SELECT count(*) FROM experiments WHERE name = '{name}'", "mlflow") == "0"
    assert steps.psql(server, f"SELECT count(*) FROM registered_models WHERE name = '{name}'", "mlflow") == "0"


@dataclass(frozen=True)
class Broken:
    """`shell` breaks something; a finding of `check` is bad then and says `words`."""

    name: str
    shell: str
    check: str
    words: str


HBA = "UNIT=$(systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1)"
CASES = (
    Broken("open secret", "chmod 0644 /etc/mlflow-onprem/mlflow/s3-credentials", "secret files", "0644 mlflow:mlflow instead of 0600"),
    Broken("store stopped", "systemctl stop minio", "service", "minio on port 9000: its unit is inactive"),
    Broken(
        "default account",
        "cd /etc/mlflow-onprem/minio && echo minioadmin > root-user && echo minioadmin > root-password && systemctl restart minio",
        "default account",
        "lets minioadmin:minioadmin in",
    ),
    Broken(
        "PostgreSQL on the network",
        f"{HBA}; runuser -u postgres -- psql -qc \"ALTER SYSTEM SET listen_addresses = '*'\" && systemctl restart $UNIT",
        "ports",
        "PostgreSQL listens on 0.0.0.0",
    ),
    Broken(
        "other tables",
        "runuser -u postgres -- psql -d mlflow -qc \"UPDATE alembic_version SET version_num = '0a8213491aaa'\"",
        "tables",
        "0a8213491aaa",
    ),
    Broken("MLflow stopped", "systemctl stop mlflow", "service", "mlflow on port 5000: its unit is inactive"),
)


@pytest.mark.parametrize("broken", CASES, ids=[each.name for each in CASES])
def test_what_is_broken_is_named_with_its_remedy(host: HostFactory, broken: Broken) -> None:
    server = host()
    server.run(["bash", "-c", broken.shell])
    code, answer = examine(server)
    assert (code, answer["healthy"]) == (4, False)
    found = [each for each in answer["findings"] if each["check"] == broken.check and each["level"] == "error"]
    assert found, answer
    assert broken.words in found[0]["what"]
    assert found[0]["why"]
    assert "mlflow-onprem" in found[0]["fix"]
