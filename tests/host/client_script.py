"""What a person does with MLflow's client, with only the variables of `client-env` set. Runs on a machine of its own, in the client's environment.

`client_script.py everything` does all of it, `client_script.py large BYTES` one large artifact. Prints one JSON object.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts


def everything() -> dict[str, object]:
    """Runs, metrics, artifacts, registry, a trace, experiment 0: each compared with what was sent."""
    client, tag = MlflowClient(), os.urandom(4).hex()
    experiment = mlflow.set_experiment(f"remote-{tag}")
    content = {"one.bin": os.urandom(3 << 20), "empty.bin": b"", "deep/er/text.txt": "zwölf Boxkämpfer\n".encode()}
    with tempfile.TemporaryDirectory() as folder:
        for name, data in content.items():
            path = Path(folder) / "up" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        with mlflow.start_run(run_name="remote") as run:
            mlflow.log_params({"depth": 3, "name": tag})
            for step in range(5):
                mlflow.log_metric("loss", 1 / (1 + step), step=step)
            mlflow.log_artifacts(f"{folder}/up", "model")
        run_id = run.info.run_id
        seen, history = client.get_run(run_id), client.get_metric_history(run_id, "loss")
        back = Path(download_artifacts(run_id=run_id, artifact_path="model", dst_path=f"{folder}/back"))
        artifacts = {str(path.relative_to(back)): path.read_bytes() for path in back.rglob("*") if path.is_file()}
        listed = sorted(each.path for each in client.list_artifacts(run_id, "model"))

        client.create_registered_model(f"model-{tag}")
        version = client.create_model_version(f"model-{tag}", f"{run.info.artifact_uri}/model", run_id)
        client.set_registered_model_alias(f"model-{tag}", "champion", version.version)
        fetched = Path(download_artifacts(artifact_uri=f"models:/model-{tag}@champion", dst_path=f"{folder}/registry"))

        with mlflow.start_run(experiment_id="0") as zero:
            mlflow.log_text(tag, "zero.txt")
        zero_back = Path(download_artifacts(run_id=zero.info.run_id, artifact_path="zero.txt", dst_path=f"{folder}/zero")).read_text()

        return {
            "run_id": run_id,
            "artifact_uri": run.info.artifact_uri,
            "params": dict(seen.data.params) == {"depth": "3", "name": tag},
            "metrics": [each.value for each in history] == [1 / (1 + step) for step in range(5)],
            "artifacts": artifacts == content,
            "listed": listed == ["model/deep", "model/empty.bin", "model/one.bin"],
            "registry": (fetched / "one.bin").read_bytes() == content["one.bin"],
            "trace": _trace(client, experiment.experiment_id, tag),
            "experiment_0": zero_back == tag,
            "search": [each.info.run_id for each in client.search_runs([experiment.experiment_id], f"params.name = '{tag}'")] == [run_id],
            "deleted": _deleted(client, run_id),
        }


def _trace(client: MlflowClient, experiment_id: str, tag: str) -> bool:
    """A trace with two spans comes back with what went in."""

    with mlflow.start_span("outer") as outer:
        outer.set_inputs({"text": tag})
        with mlflow.start_span("inner"):
            outer.set_outputs(tag.upper())
    flush = getattr(mlflow, "flush_trace_async_logging", None)
    if flush is not None:
        flush()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = client.search_traces([experiment_id])
        if found and {span.name for span in found[0].data.spans} == {"outer", "inner"}:
            root = next(span for span in found[0].data.spans if span.name == "outer")
            return bool(root.outputs == tag.upper() and root.inputs == {"text": tag})
        time.sleep(0.2)
    return False


def _deleted(client: MlflowClient, run_id: str) -> bool:
    client.delete_run(run_id)
    gone = client.get_run(run_id).info.lifecycle_stage == "deleted"
    client.restore_run(run_id)
    return bool(gone and client.get_run(run_id).info.lifecycle_stage == "active")


def large(size: int) -> dict[str, object]:
    """One artifact of that many bytes, up and down."""
    mlflow.set_experiment("large")
    block = os.urandom(1 << 20)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = Path(folder) / "large.bin"
        with path.open("wb") as file:
            for number in range(size >> 20):
                file.write(number.to_bytes(8, "big") + block[8:])
        with mlflow.start_run() as run:
            began = time.monotonic()
            mlflow.log_artifact(str(path))
            up = time.monotonic() - began
        began = time.monotonic()
        back = download_artifacts(run_id=run.info.run_id, artifact_path="large.bin", dst_path=f"{folder}/back")
        down = time.monotonic() - began
        return {"same": _sha256(path) == _sha256(Path(back)), "bytes": path.stat().st_size, "up": round(up, 1), "down": round(down, 1)}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    print(json.dumps(everything() if sys.argv[1] == "everything" else large(int(sys.argv[2]))))
