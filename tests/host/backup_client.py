"""MLflow's own client on the host: `write RUNS BYTES` logs runs, `read` prints everything it sees, `delete` removes a run's artifacts for good.

Run with the server's environment and the variables of `client-env`; prints one JSON object.
"""

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import mlflow
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.entities import ViewType

EXPERIMENT = "backup"


def write(runs: int, size: int) -> list[str]:
    """So many runs, each with an artifact of so many bytes at least."""
    mlflow.set_experiment(EXPERIMENT)
    made = []
    for number in range(runs):
        with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
            mlflow.log_param("number", number)
            for step in range(3):
                mlflow.log_metric("loss", 1 / (1 + number + step), step=step)
            path = Path(folder) / "weights.bin"
            path.write_bytes(os.urandom(size + number))
            mlflow.log_artifact(str(path), "model")
            mlflow.log_text(f"run {number}", "notes/ä + ü %41.txt")
            made.append(run.info.run_id)
    return made


def read() -> dict[str, object]:
    """Runs with metrics, every step of them, parameters, and artifacts by digest; registered models."""
    client = mlflow.MlflowClient()
    experiments = client.search_experiments(view_type=ViewType.ALL)
    found: dict[str, object] = {}
    for run in client.search_runs([each.experiment_id for each in experiments], run_view_type=ViewType.ALL, max_results=1000):
        history = [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "loss")]
        found[run.info.run_id] = [run.info.lifecycle_stage, run.data.metrics, run.data.params, history, artifacts(run.info.run_id)]
    return {"experiments": sorted(each.name for each in experiments), "runs": found}


def artifacts(run_id: str, path: str = "") -> dict[str, str]:
    """Digests by path."""
    found: dict[str, str] = {}
    for each in list_artifacts(run_id=run_id, artifact_path=path or None):
        if each.is_dir:
            found |= artifacts(run_id, each.path)
        else:
            with tempfile.TemporaryDirectory() as folder:
                local = download_artifacts(run_id=run_id, artifact_path=each.path, dst_path=folder)
                found[each.path] = hashlib.sha256(Path(local).read_bytes()).hexdigest()
    return found


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    print(json.dumps(write(*map(int, arguments)) if task == "write" else read(), sort_keys=True))
