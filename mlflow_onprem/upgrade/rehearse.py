"""`upgrade --rehearse`: the newest backup restored in a disposable host and upgraded there for real. The live host is not touched."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from mlflow_onprem_sandbox import product

from mlflow_onprem.backup import boot
from mlflow_onprem.backup.boot import Source
from mlflow_onprem.backup.encryption import Keys
from mlflow_onprem.backup.manifest import Manifest
from mlflow_onprem.backup.repository import Repository
from mlflow_onprem.core.errors import CommandFailed, Refused
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.stack.mlflow import ENVIRONMENTS
from mlflow_onprem.system.local_host import LocalHost


@dataclass(frozen=True)
class Rehearsal:
    """`go`: the same upgrade may be made here. Where not, `why` and what the disposable host said last. Times in seconds, as measured there."""

    go: bool
    backup: str
    version: str
    wanted: str
    migrations: int | None
    downtime: float
    steps: tuple[tuple[str, float], ...]
    runs: int
    artifacts: int
    seconds: float
    why: str = ""
    output: str = ""


def rehearse(
    host: LocalHost, assembly: Assembly, repository: Repository, manifest: Manifest, keys: Keys, source: Source, locks: dict[str, str] | None = None
) -> Rehearsal:
    """Restore, upgrade, compare. `locks`: requirement sets it does not carry. Raises OnPremError where it could not be tried."""
    began = time.monotonic()
    config, wanted = assembly.config, assembly.config.mlflow.version
    if manifest.mlflow == wanted:
        raise Refused(
            f"the newest backup ({manifest.id}) is of MLflow {wanted} already: there is nothing to rehearse",
            "set mlflow.version in the configuration to what you want to go to",
        )
    known = {**dict(assembly.facts.locks), **lock_in_use(host, manifest), **(locks or {})}
    with boot.restored_host(host, manifest, source, config, f"rehearse-{manifest.id[-4:]}", known) as (sandbox, _):
        sandbox.write(product.CONFIG, boot.configuration(manifest, config, wanted))
        host.say(f"upgrading it from {manifest.mlflow} to {wanted}")
        try:
            done = json.loads(sandbox.follow(["mlflow-onprem", "upgrade", "--no-backup", "--json"], host.say, timeout=86_400).out)
            host.say("comparing what it serves now with the backup")
            runs, artifacts, _ = boot.compare(host, repository, manifest, keys, sandbox)
        except CommandFailed as failed:
            took = round(time.monotonic() - began, 1)
            return Rehearsal(False, manifest.id, manifest.mlflow, wanted, None, 0.0, (), 0, 0, took, failed.message, failed.output)
    steps = tuple((str(name), float(seconds)) for name, seconds in done["steps"])
    took = round(time.monotonic() - began, 1)
    return Rehearsal(True, manifest.id, manifest.mlflow, wanted, done["migrations"], done["downtime"], steps, runs, artifacts, took)


def lock_in_use(host: LocalHost, manifest: Manifest) -> dict[str, str]:
    """The requirements that the backup's version runs on here: a later program may not carry them any more."""
    text = host.read(f"{ENVIRONMENTS}/{manifest.lock}/requirements.txt")
    return {} if text is None else {manifest.mlflow: text.decode()}
