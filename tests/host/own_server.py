"""What a person's own MLflow server holds: run inside with that MLflow, as its administrator; prints what must still be there after the adoption."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import mlflow
from mlflow.server import get_app_client


def main() -> None:
    """An account with permissions of its own, runs with artifacts behind the server, and one on the disk beside it."""
    accounts = get_app_client("basic-auth", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    accounts.create_user("bob", "bobs-long-password")
    made = {
        "shared": mlflow.create_experiment("shared"),
        "private": mlflow.create_experiment("private"),
        "local": mlflow.create_experiment("local", artifact_location="file:///home/ann/track/mlruns/77"),
    }
    accounts.create_experiment_permission(made["shared"], "bob", "EDIT")
    accounts.create_experiment_permission(made["private"], "bob", "NO_PERMISSIONS")
    runs = []
    for name, experiment in made.items():
        with tempfile.TemporaryDirectory() as folder, mlflow.start_run(experiment_id=experiment) as run:
            content = os.urandom(6_000_000 if name == "shared" else 50_000)
            (Path(folder) / "größe 1.bin").write_bytes(content)
            mlflow.log_metrics({"loss": 0.5, "nan": float("nan")}, step=3)
            mlflow.log_param("rate", name)
            mlflow.log_artifact(f"{folder}/größe 1.bin", "deep/er")
            runs.append({"name": name, "experiment": experiment, "run": run.info.run_id, "sha256": hashlib.sha256(content).hexdigest()})
    print(json.dumps(runs))


if __name__ == "__main__":
    main()
