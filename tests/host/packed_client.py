"""Packed files and long names up and down with MLflow's client, each compared with what was sent. Runs on a machine of its own; prints JSON.

`packed_client.py up` logs them and prints the run's id, `packed_client.py down RUN` fetches them.
"""

import gzip
import hashlib
import json
import sys
import tempfile
from pathlib import Path

NAMES = ("a.csv.gz", "b.tgz", "c.svgz", "d.json.gz", "e.tar.gz", "f.bz2", "g.br", "h.Z", "i.txt.xz", "あ" * 85)


def content(name: str) -> bytes:
    """Packed for real, so that whoever unpacks it gets other bytes."""
    return gzip.compress(hashlib.sha256(name.encode()).digest() * 40_000, mtime=0)


def up() -> dict[str, object]:
    """Log all of them into a new run."""
    import mlflow

    mlflow.set_experiment("packed")
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run() as run:
        for name in NAMES:
            Path(folder, name).write_bytes(content(name))
        mlflow.log_artifacts(folder, "packed")
    return {"run": run.info.run_id, "uri": run.info.artifact_uri}


def down(run_id: str) -> dict[str, object]:
    """Which of them came back as they went."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        back = Path(download_artifacts(run_id=run_id, artifact_path="packed", dst_path=folder))
        return {name: (back / name).read_bytes() == content(name) for name in NAMES}


if __name__ == "__main__":
    print(json.dumps(up() if sys.argv[1] == "up" else down(sys.argv[2])))
