"""What one backup says about itself."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mlflow_onprem.backup.repository import Repository
from mlflow_onprem.clients.store_errors import StoreUnreachable
from mlflow_onprem.core.errors import ConfigError, OnPremError

FORMAT = 1
FOLDER = "backups/"
MANIFEST = "manifest.json"
PROVEN = "proven.json"
ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


class Part(BaseModel):
    """Frozen; what a later release added is left alone."""

    model_config = ConfigDict(frozen=True)


class FilePart(Part):
    """One file of the backup as it is there, `size` in bytes."""

    size: int
    sha256: str


class ObjectsPart(Part):
    """All artifacts; `new_` are those that this backup had to copy. Sizes in bytes.

    `beside` are below an object of their folder's name. `against` says what the store's listing was compared with: its own disk, or names that the
    database knows; empty in backups of releases that trusted the listing alone.
    """

    count: int
    bytes: int
    new_count: int
    new_bytes: int
    beside: int = 0
    against: Literal["", "disk", "names"] = ""


class Manifest(Part):
    """`created` is the moment whose data this is, in UTC; `seconds` what making it took. Revisions are Alembic's."""

    format: int
    id: str
    created: datetime
    seconds: float
    host: str
    codename: str
    made_by: str
    mlflow: str
    lock: str
    python: str
    object_store: str
    postgres: int
    bucket: str
    artifacts: str
    databases: dict[str, str]
    revisions: dict[str, str]
    encryption: Literal["none", "passphrase", "recipient"]
    objects: ObjectsPart
    files: dict[str, FilePart]


class Proof(Part):
    """When and how a backup was proven by restoring it; counts of what was compared."""

    when: datetime
    seconds: float
    tables: int
    rows: int
    runs: int
    artifacts: int
    artifact_bytes: int


def new_id(now: datetime) -> str:
    """A name that sorts by time."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def name(backup: str, file: str) -> str:
    """Where a backup's own file is in the repository."""
    return f"{FOLDER}{backup}/{file}"


def read(repository: Repository, backup: str) -> Manifest:
    """One backup. Raises ConfigError for an ID that is none or is not there, OnPremError for a damaged or newer manifest."""
    content = repository.read(name(backup, MANIFEST)) if ID.fullmatch(backup) else None
    if content is None:
        raise ConfigError(f"there is no backup {backup} in {repository.address}", "`mlflow-onprem backup list` shows what is there")
    try:
        if json.loads(content).get("format") != FORMAT:
            raise OnPremError(f"backup {backup} was made by a newer mlflow-onprem", "restore it with that release, or a later one")
        return Manifest.model_validate_json(content)
    except (ValueError, ValidationError) as broken:
        raise OnPremError(f"the manifest of backup {backup} is damaged", "take another one: `mlflow-onprem backup list`") from broken


@dataclass(frozen=True)
class Every:
    """What a repository holds, oldest first: whole backups; IDs of unfinished ones (no manifest); IDs of those whose manifest cannot be read here.

    Only unfinished ones may be removed without being asked: an unreadable one may be of a later release, or need no more than its manifest repaired.
    """

    whole: tuple[Manifest, ...]
    unfinished: tuple[str, ...]
    unreadable: tuple[str, ...]


def every(repository: Repository) -> Every:
    """Everything in the repository."""
    seen: dict[str, set[str]] = {}
    for found, _ in repository.names(FOLDER):
        backup, _, file = found.removeprefix(FOLDER).partition("/")
        seen.setdefault(backup, set()).add(file)
    whole, unreadable = [], []
    for backup in sorted(backup for backup, files in seen.items() if MANIFEST in files):
        try:
            whole.append(read(repository, backup))
        except StoreUnreachable:
            raise
        except OnPremError:
            unreadable.append(backup)
    unfinished = sorted(backup for backup, files in seen.items() if MANIFEST not in files)
    return Every(tuple(whole), tuple(unfinished), tuple(unreadable))


def proof(repository: Repository, backup: str) -> Proof | None:
    """When it was proven, or None."""
    content = repository.read(name(backup, PROVEN))
    try:
        return None if content is None else Proof.model_validate_json(content)
    except ValidationError:
        return None


def files_of(repository: Repository, backup: str) -> Iterator[str]:
    """The names of all that is of this backup only, the manifest first: removed in this order, a half-removed backup is none."""
    names = [found for found, _ in repository.names(f"{FOLDER}{backup}/")]
    yield from sorted(names, key=lambda each: not each.endswith(f"/{MANIFEST}"))


def now() -> datetime:
    """In UTC, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0)
