"""locks/schemas.json says what the MLflow of the lock wants: its newest revisions, and those on the way.

After a new lock: `MLFLOW_ONPREM_TEST_GOLDEN=write .venv/bin/python -m pytest -m mlflow tests/server/test_schemas.py` writes it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.server.conftest import LOCK, ROOT

pytestmark = pytest.mark.mlflow
SCHEMAS = ROOT / "mlflow_onprem" / "locks" / "schemas.json"
ASK = """
import json, sys
from importlib.util import find_spec
from pathlib import Path
from mlflow_onprem_server import revisions
root = Path(find_spec("mlflow").origin).parent
found = {name: root / where for name, (where, _) in (("tracking", revisions.TRACKING), ("auth", revisions.AUTH))}
heads = {name: revisions.head(folder) for name, folder in found.items()}
print(json.dumps({**heads, "steps": {name: " ".join(revisions.steps(folder)) for name, folder in found.items()}}))
"""


def test_the_revisions_are_those_of_the_lock(mlflow_python: Path) -> None:
    version = re.search(r"^mlflow==(\S+)", LOCK.read_text(), re.MULTILINE)
    assert version is not None
    done = subprocess.run([mlflow_python, "-c", ASK], env={"PYTHONPATH": str(ROOT / "server")}, capture_output=True, text=True, check=True)
    wanted = {version[1]: json.loads(done.stdout)}
    if os.environ.get("MLFLOW_ONPREM_TEST_GOLDEN") == "write":
        SCHEMAS.write_text(json.dumps(wanted, indent=1) + "\n")
    assert json.loads(SCHEMAS.read_text()) == wanted
