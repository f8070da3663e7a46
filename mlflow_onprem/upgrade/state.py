"""What an upgrade under way has to remember, so that whatever kills it the next run finishes or undoes it.

The way back is the same list of resources, wanted as they were found: files, links, blocks and services that the upgrade is going to change.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from mlflow_onprem.core.engine import Stack
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Mode, Resource, Text
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.database import SettingsInForce
from mlflow_onprem.resources.files import BlockState, File, FileState, MarkedBlock, Symlink, SymlinkState
from mlflow_onprem.resources.services import STAMPS, Service, ServiceState
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system.systemd import Systemd

MLFLOW = "mlflow.service"
PATH = "/var/lib/mlflow-onprem/upgrade.json"
#: How far it came. Before `changing` nothing but the service is touched; from `opening` on clients may have written to the new stack.
#: `returned`: on the way back, the databases are exchanged already.
STOPPING, CHANGING, OPENING, RETURNED = "stopping", "changing", "opening", "returned"


@dataclass(frozen=True)
class Journal:
    """`version` and `wanted` are MLflow's; `stopped` is in seconds since the epoch. From `changing` on each of `databases` has a copy beside it."""

    step: str
    version: str
    wanted: str
    backup: str | None
    stopped: float
    databases: tuple[str, ...]
    before: tuple[dict[str, Any], ...] = field(repr=False)
    keep: bool = False


def read(host: Host) -> Journal | None:
    """The upgrade that was interrupted, None where none was. Raises OnPremError where its record is damaged."""
    text = host.read(PATH)
    if text is None:
        return None
    try:
        values = json.loads(text)
        return Journal(**{**values, "databases": tuple(values["databases"]), "before": tuple(values["before"])})
    except (ValueError, TypeError, KeyError):
        raise OnPremError(f"{PATH} is damaged", f"put the newest backup back: {aside('ID')} (`backup list` shows them)") from None


def aside(backup: str) -> str:
    """The commands that end an upgrade by its backup: `restore` refuses while the record of one is there."""
    return f"sudo mv {PATH} {PATH}.old && sudo mlflow-onprem restore {backup}"


def write(host: Host, journal: Journal) -> None:
    """It holds contents of files that only root may read, and so does only root."""
    host.write(PATH, (json.dumps(asdict(journal)) + "\n").encode(), mode=0o600, owner="root", group="root")


def forget(host: Host) -> None:
    """The upgrade is done, or undone."""
    host.remove(PATH)


def remember(host: Host, assembly: Assembly) -> tuple[dict[str, Any], ...]:
    """Everything in the list that differs and can be put back, as it is now; MLflow's service in any case."""
    found = []
    for each in assembly.stack:
        if isinstance(each, Service):
            state = each.observe(host)
            # One that is not running now is not started by the way back; MLflow's is what all of this is about.
            if each.unit == MLFLOW or (state != each.want and (state is None or state.active)):
                found.append(_pack_service(host, each, state is not None or each.unit == MLFLOW))
        elif isinstance(each, (File, Symlink, MarkedBlock)) and (have := each.observe(host)) != each.want:
            found.append(_pack(each, have))
    return tuple(found)


def way_back(journal: Journal, assembly: Assembly) -> Stack:
    """The list that makes the host what it was: services that were not there go first, files come back, then services run on them again."""
    made = [_unpack(each, assembly.to.systemd) for each in journal.before]
    gone = [each for each in made if isinstance(each, Service) and each.want is None]
    services = [each for each in made if isinstance(each, Service) and each.want is not None]
    files = [each for each in made if not isinstance(each, Service)]
    in_force = [each for each in assembly.stack if isinstance(each, SettingsInForce)]
    services.sort(key=lambda each: each.unit == MLFLOW)
    return Stack(first=(*gone, *files, *in_force, *services))


def _pack(resource: File | Symlink | MarkedBlock, have: Any) -> dict[str, Any]:
    if isinstance(resource, File):
        secret = have is not None and isinstance(have.content, Secret)
        text = None if have is None else have.content.reveal() if secret else have.content.value
        return {"kind": "file", "path": resource.path, "secret": secret, "text": text} | (
            {} if have is None else {"mode": have.mode.value, "owner": have.owner, "group": have.group}
        )
    if isinstance(resource, Symlink):
        return {"kind": "symlink", "path": resource.path, "target": None if have is None else have.target}
    return {"kind": "block", "path": resource.path, "text": None if have is None else have.content.value}


def _pack_service(host: Host, resource: Service, there: bool) -> dict[str, Any]:
    """What it ran on stands in its stamp; put back, it is started on that again."""
    try:
        stamp = json.loads(host.read(f"{STAMPS}/{resource.unit}") or b"{}")
    except ValueError:
        stamp = {}
    inputs = {name: str(stamp.get(name, "")) for name in ("inputs", "rereads")}
    return {"kind": "service", "unit": resource.unit, "boot": resource.boot_unit, "restarts": resource.restarts, "inputs": inputs if there else None}


def _unpack(entry: dict[str, Any], systemd: Systemd) -> Resource:
    if entry["kind"] == "file":
        if entry["text"] is None:
            return File(entry["path"], None)
        content = Secret(entry["text"]) if entry["secret"] else Text(entry["text"])
        return File(entry["path"], FileState(content, Mode(entry["mode"]), entry["owner"], entry["group"]))
    if entry["kind"] == "symlink":
        return Symlink(entry["path"], None if entry["target"] is None else SymlinkState(entry["target"]))
    if entry["kind"] == "block":
        return MarkedBlock(entry["path"], None if entry["text"] is None else BlockState(Text(entry["text"])))
    state = None if entry["inputs"] is None else ServiceState(enabled=True, active=True, **entry["inputs"])
    return Service(entry["unit"], state, systemd, boot_unit=entry["boot"], restarts=entry["restarts"])
