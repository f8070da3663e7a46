"""What `status` says of backups: written down by every command that knows, so that looking costs one small file and no rights."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mlflow_onprem.core.errors import NotVisible
from mlflow_onprem.core.host import Host

if TYPE_CHECKING:
    from mlflow_onprem.backup.manifest import Manifest, Proof

PATH = "/var/lib/mlflow-onprem/backups.json"


class Summary(BaseModel):
    """Of one repository: how many, the newest, and the newest that was proven by restoring it."""

    model_config = ConfigDict(frozen=True)
    address: str
    count: int
    newest: str | None = None
    created: datetime | None = None
    proven: str | None = None
    proven_created: datetime | None = None


def write(host: Host, address: str, backups: Sequence[tuple[Manifest, Proof | None]]) -> None:
    """Keep what was found."""
    newest = max((each for each, _ in backups), key=lambda each: each.created, default=None)
    proven = max((each for each, proof in backups if proof), key=lambda each: each.created, default=None)
    found = Summary(
        address=address,
        count=len(backups),
        newest=newest.id if newest else None,
        created=newest.created if newest else None,
        proven=proven.id if proven else None,
        proven_created=proven.created if proven else None,
    )
    host.write(PATH, (found.model_dump_json() + "\n").encode(), mode=0o644, owner="root", group="root")


def read(host: Host) -> Summary | None:
    """What was found last, None where no backup was ever made here."""
    try:
        content = host.read(PATH)
        return None if content is None else Summary.model_validate_json(content)
    except (ValidationError, NotVisible):
        return None


def as_json(found: Summary | None, now: datetime) -> dict[str, Any]:
    """The same for `status --json`: ids are None where there is none, ages in whole seconds; `proven` is about the newest one."""
    if found is None:
        return {"count": 0, "address": None, "newest": None, "age_seconds": None, "proven": False, "newest_proven": None, "proven_age_seconds": None}
    return {
        "count": found.count,
        "address": found.address,
        "newest": found.newest,
        "age_seconds": _seconds(found.created, now),
        "proven": found.newest is not None and found.newest == found.proven,
        "newest_proven": found.proven,
        "proven_age_seconds": _seconds(found.proven_created, now),
    }


def _seconds(since: datetime | None, now: datetime) -> int | None:
    return None if since is None else max(int((now - since).total_seconds()), 0)


def line(found: Summary | None, now: datetime) -> str:
    """One line for `status`."""
    if found is None or found.newest is None or found.created is None:
        return "backups: none. Make one: sudo mlflow-onprem backup create"
    text = f"backups: {found.count} in {found.address}, the newest {age(now - found.created)} old"
    if found.proven is None or found.proven_created is None:
        return f"{text}, none proven: sudo mlflow-onprem backup verify {found.newest} --boot"
    if found.proven == found.newest:
        return f"{text}, proven"
    return f"{text}; the newest proven one is {age(now - found.proven_created)} old ({found.proven})"


def age(span: timedelta) -> str:
    """A span as people say it."""
    seconds = max(int(span.total_seconds()), 0)
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            count = seconds // unit
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "less than a minute"
