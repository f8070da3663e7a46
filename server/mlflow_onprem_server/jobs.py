"""MLflow's job runner, started beside the workers when jobs are switched on.

`python -m mlflow_onprem_server.jobs` becomes MLflow's own runner: the environment `mlflow server`
would give it, secrets read from their files, then MLflow's module as the main program. It ends by
itself when the supervisor is gone.
"""

from __future__ import annotations

import os
import runpy
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import environment, orphans
from .settings import Settings, read

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the queue lives as long as the service, in a folder of its own


def share_queue() -> str:
    """Return the folder of the queue; set it, and the token of the calls a job makes, for the workers and the runner."""
    folder = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    queue = tempfile.mkdtemp(prefix="mlflow-jobs-", dir=folder)
    os.environ["_MLFLOW_HUEY_STORAGE_PATH"] = queue
    os.environ["_MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return queue


def start() -> subprocess.Popen[bytes]:
    """Start the runner as a child of the supervisor."""
    return subprocess.Popen([sys.executable, "-m", "mlflow_onprem_server.jobs"])


def for_runner(settings: Settings, supervisor_pid: int) -> dict[str, str]:
    """Return what the runner needs on top of what a worker needs."""
    anywhere = settings.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
    address = f"http://{'127.0.0.1' if anywhere else settings.host}:{settings.port}"
    return {
        "MLFLOW_BACKEND_STORE_URI": settings.database_uri,
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": environment.default_artifact_root(settings),
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_GATEWAY_URI": address,
        "MLFLOW_SERVER_PID": str(supervisor_pid),
        "_MLFLOW_SERVER_UP_TIME": str(int(time.time() * 1000)),
    }


def main() -> None:
    """Become MLflow's job runner."""
    orphans.tie_to_supervisor()
    settings = read(os.environ)
    environment.apply(settings)
    os.environ.update(for_runner(settings, os.getppid()))
    runpy.run_module("mlflow.server.jobs._job_runner", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
