"""Hosts with an older MLflow on them, installed for real by a lock of the host's own, with runs that this older MLflow made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow_onprem_sandbox import Layer, Sandbox, layers, product

from mlflow_onprem.settings.facts import LOCKS

#: Two older minors, with the migrations that lie between them and the pinned one.
VERSIONS = {"3.14.0": 9, "3.16.1": 2}
OWN_LOCKS = Path(__file__).parents[1] / "locks"
SCRIPT = Path(__file__).with_name("old_runs.py")
MADE = "/root/made.json"


def client(server: Sandbox, task: str, *more: str) -> dict[str, Any]:
    """Run the script with the MLflow of the server's own environment, as the administrator. Raises CommandFailed."""
    server.push(SCRIPT, "/root/old_runs.py")
    environment: dict[str, str] = json.loads(server.run(["mlflow-onprem", "client-env", "--json"]).out)["variables"]
    environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:5000"
    argv = ["/opt/mlflow-onprem/environments/current/bin/python", "/root/old_runs.py", task, *more]
    answer: dict[str, Any] = json.loads(server.run(argv, env=environment, timeout=300).out.splitlines()[-1])
    return answer


def still_there(server: Sandbox, version: str) -> None:
    """Everything the older MLflow made is served, byte for byte, and by that version. Raises CommandFailed."""
    assert client(server, "check", server.read(MADE).decode()) == {"version": version}


def old_layer(version: str, below: Layer, config: str, store: Path, say: Callable[[str], None]) -> Layer:
    """A host on which that version was installed and used."""
    lock = OWN_LOCKS / f"mlflow-{version}.txt"
    text = f'{config}\n[mlflow]\nversion = "{version}"\n'
    key = hashlib.sha256(json.dumps([below.key, text, lock.read_text(), SCRIPT.read_text()]).encode()).hexdigest()[:12]

    def make(server: Sandbox) -> None:
        server.push(lock, f"{LOCKS}/{lock.name}")
        product.install(server, text, say, store)
        server.write(MADE, json.dumps(client(server, "make")))
        still_there(server, version)

    with layers.locked("build"):
        return product.kept_layer(f"old-{version.replace('.', '')}-{key}", below, make, say)
