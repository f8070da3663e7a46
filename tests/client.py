"""A client of MLflow on another machine, with nothing but what `client-env` gives: run by make_try.py and host tests in MLflow's own client.

Prints one JSON object: the run, and whether the artifact came back byte for byte.
"""

import json
import os
import tempfile
from pathlib import Path

import mlflow

SIZE = 1 << 20


def main() -> None:
    """Log a parameter, a metric and an artifact, fetch all of them back."""
    content = os.urandom(SIZE)
    mlflow.set_experiment("try")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.bin"
        path.write_bytes(content)
        with mlflow.start_run(run_name="first run") as run:
            mlflow.log_param("learning_rate", 0.01)
            for step in range(20):
                mlflow.log_metric("loss", 1 / (1 + step), step=step)
            mlflow.log_artifact(str(path), "model")
        seen = mlflow.get_run(run.info.run_id)
        back = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="model/weights.bin", dst_path=f"{folder}/back"))
        answer = {
            "run_id": run.info.run_id,
            "experiment_id": run.info.experiment_id,
            "artifact_uri": run.info.artifact_uri,
            "bytes": SIZE,
            "same_bytes": back.read_bytes() == content,
            "same_metric": seen.data.metrics.get("loss") == 1 / 20,
        }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
