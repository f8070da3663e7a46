"""A client of the server's own MLflow, run on the server: `old_runs.py make` logs runs and prints what they hold, `check JSON` reads all of it back.

`litter [COUNT]` makes runs, models and traces and deletes some of them, one of these with so many objects.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

RUNS, STEPS = 5, 20


def put(client: MlflowClient, run: str, count: int, size: int) -> list[str]:
    """Artifacts below `files`; their checksums."""
    with tempfile.TemporaryDirectory() as folder:
        contents = [os.urandom(size) for _ in range(count)]
        for number, content in enumerate(contents):
            (Path(folder) / f"{number:04}.bin").write_bytes(content)
        client.log_artifacts(run, folder, "files")
    return [hashlib.sha256(content).hexdigest() for content in contents]


def make() -> dict[str, Any]:
    """Runs with metrics, a parameter and an artifact each, a trace, a registered model."""
    client = MlflowClient()
    experiment = client.create_experiment("old")
    runs = {}
    for number in range(RUNS):
        run = client.create_run(experiment, run_name=f"run {number}").info.run_id
        for step in range(STEPS):
            client.log_metric(run, "loss", 1 / (1 + step + number), step=step)
        client.log_param(run, "lr", str(number))
        runs[run] = put(client, run, 1, 50_000)[0]
        client.set_terminated(run)
    mlflow.set_experiment("old")
    with mlflow.start_span("span") as span:
        span.set_inputs({"question": 1})
    mlflow.flush_trace_async_logging()
    client.create_registered_model("model")
    client.create_model_version("model", f"runs:/{run}/files", run)
    return {"experiment": experiment, "runs": runs}


def check(made: dict[str, Any]) -> dict[str, Any]:
    """Read everything back; raises where anything is not as it was."""
    client = MlflowClient()
    for run, checksum in made["runs"].items():
        assert len(client.get_metric_history(run, "loss")) == STEPS
        assert "lr" in client.get_run(run).data.params
        with tempfile.TemporaryDirectory() as folder:
            path = client.download_artifacts(run, "files/0000.bin", folder)
            assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == checksum
    assert {run.info.run_id for run in client.search_runs([made["experiment"]])} == set(made["runs"])
    assert len(client.search_model_versions("name = 'model'")) == 1
    assert len(client.search_traces(experiment_ids=[made["experiment"]])) == 1
    return {"version": mlflow.__version__}


def litter(many: int = 10) -> dict[str, str]:
    """What of all this is deleted stands in the answer under `dead`, `empty`, `many`, `registered`, `gone` and `model`."""
    client = MlflowClient()
    keep, gone = client.create_experiment("keep"), client.create_experiment("gone")
    found = {name: client.create_run(keep).info.run_id for name in ("live", "dead", "empty", "many", "registered")}
    for name, count in (("live", 3), ("dead", 5), ("many", many), ("registered", 2)):
        put(client, found[name], count, 1000)
    client.create_registered_model("used")
    client.create_model_version("used", f"runs:/{found['registered']}/files", found["registered"])
    put(client, client.create_run(gone).info.run_id, 4, 1000)
    model, inside = client.create_logged_model(keep, name="one"), client.create_logged_model(gone, name="two")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "MLmodel").write_bytes(b"x" * 500)
        client.log_model_artifacts(model.model_id, folder)
        client.log_model_artifacts(inside.model_id, folder)
    mlflow.set_experiment("gone")
    with mlflow.start_span("span") as span:
        span.set_inputs({"question": 1})
    mlflow.flush_trace_async_logging()
    for name in ("dead", "empty", "many", "registered"):
        client.delete_run(found[name])
    client.delete_logged_model(model.model_id)
    client.delete_experiment(gone)
    return {**found, "keep": keep, "gone": gone, "model": model.model_id}


if __name__ == "__main__":
    task, *more = sys.argv[1:]
    answer = check(json.loads(more[0])) if task == "check" else litter(*map(int, more)) if task == "litter" else make()
    print(json.dumps(answer))
