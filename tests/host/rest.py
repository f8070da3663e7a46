"""A client on this machine that speaks MLflow's REST API: logs a run with an artifact, finds it again byte for byte."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass

from mlflow_onprem_sandbox import Sandbox

from mlflow_onprem.doctor.smoke_test import Rest


@dataclass(frozen=True)
class Logged:
    """What was logged."""

    run: str
    path: str
    content: bytes
    loss: float


def door(server: Sandbox) -> Rest:
    """The administrator of that server, from outside."""
    found: dict[str, str] = json.loads(server.run(["mlflow-onprem", "client-env", "--json"]).out)["variables"]
    return Rest(found["MLFLOW_TRACKING_URI"], (found["MLFLOW_TRACKING_USERNAME"], found["MLFLOW_TRACKING_PASSWORD"]))


def log(server: Sandbox, size: int = 100_000) -> Logged:
    """A run of experiment 0 with a metric and an artifact."""
    rest = door(server)
    info = rest.call("POST", "runs/create", {"experiment_id": "0", "start_time": int(time.time() * 1000)})["run"]["info"]
    loss = int.from_bytes(os.urandom(2), "big") / 7
    rest.call("POST", "runs/log-metric", {"run_id": info["run_id"], "key": "loss", "value": loss, "timestamp": int(time.time() * 1000)})
    path = f"{info['artifact_uri'].partition(':')[2].lstrip('/')}/weights.bin"
    content = os.urandom(size)
    assert rest.send("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", data=content).status_code == 200
    return Logged(info["run_id"], path, content, loss)


def is_there(server: Sandbox, logged: Logged) -> bool:
    """Whether run, metric and artifact are as they were logged."""
    rest = door(server)
    metrics = rest.call("GET", "runs/get", {"run_id": logged.run})["run"]["data"]["metrics"]
    answer = rest.send("GET", f"/api/2.0/mlflow-artifacts/artifacts/{logged.path}")
    return answer.content == logged.content and [each["value"] for each in metrics] == [logged.loss]
