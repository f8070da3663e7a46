"""What people logged on the article's host, with its own MLflow: run inside, prints what must still be there after the adoption."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

import mlflow
from mlflow.pyfunc import PythonModel


class Double(PythonModel):  # type: ignore[misc]
    """A model."""

    def predict(self, context: object, model_input: list[int], params: object = None) -> list[int]:
        return [2 * each for each in model_input]


def main() -> None:
    """Two experiments with runs, artifacts, logged models, model versions and a trace."""
    runs = []
    for name in ("first", "second"):
        mlflow.set_experiment(name)
        for number in range(2):
            with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
                content = os.urandom(200_000)
                (Path(folder) / "data.bin").write_bytes(content)
                mlflow.log_metric("loss", number + 0.25)
                mlflow.log_param("rate", number)
                mlflow.log_artifact(f"{folder}/data.bin", "inputs")
                model = mlflow.pyfunc.log_model(name="model", python_model=Double(), registered_model_name=f"model-{name}", pip_requirements=[])
                sha = hashlib.sha256(content).hexdigest()
                runs.append(
                    {"run_id": run.info.run_id, "loss": number + 0.25, "sha256": sha, "model_id": model.model_id, "uri": run.info.artifact_uri}
                )
        with mlflow.start_span("answer") as span:
            span.set_inputs({"question": 6})
            span.set_outputs(42)
    mlflow.flush_trace_async_logging()
    print(json.dumps(runs))


if __name__ == "__main__":
    main()
