"""The check on an S3 client of boto3, in MLflow's own environment, against a store in memory that lists as MinIO does."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.mlflow


def test_no_write_hides_another(mlflow_python: Path, installed: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("write_check_script.py")
    environ = {**os.environ, "PYTHONPATH": str(installed), "STATE_DIRECTORY": str(tmp_path)}
    done = subprocess.run([mlflow_python, script], env=environ, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all is well"
