"""Artifacts that a hand-built MLflow kept in a folder on the disk: every file an object of the bucket, compared byte for byte. The folder stays."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlflow_onprem.clients.object_store import ObjectStore
from mlflow_onprem.clients.sql import Sql
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base
from mlflow_onprem.resources.adoption import NOTE
from mlflow_onprem.resources.artifact_addresses import PLACES, count


@dataclass(frozen=True)
class ArtifactFolderState:
    """Where its files are now."""

    bucket: str


@dataclass(frozen=True)
class ArtifactFolder(Base):
    """A folder whose artifacts are in the bucket, below `prefix`. `spellings` are how addresses in the tables name the folder.

    One that no address names has nothing that anybody could ask for, and is left alone.
    """

    store: ObjectStore
    sql: Sql
    database: str
    bucket: str
    path: str
    spellings: tuple[str, ...]
    prefix: str
    want: ArtifactFolderState | None

    @property
    def name(self) -> str:
        return f"artifacts:{self.path}"

    def observe(self, host: Host) -> ArtifactFolderState | None:
        note = json.loads(host.read(NOTE) or b"{}")
        return ArtifactFolderState(self.bucket) if self.path in note.get("folders", []) else None

    def apply(self, host: Host, have: ArtifactFolderState | None) -> None:
        if any(count(self.sql, self.database, place, spelling) for place in PLACES for spelling in self.spellings):
            files = list(_files(host.local(self.path)))
            total = sum(size for _, _, size in files)
            done = 0
            for name, file, size in files:
                self.store.bring(self.bucket, f"{self.prefix}{name}", file)
                done += size
                host.progress(self.name, done, total)
        note = json.loads(host.read(NOTE) or b"{}")
        note = {**note, "folders": [*note.get("folders", []), self.path]}
        host.write(NOTE, (json.dumps(note) + "\n").encode(), mode=0o600, owner="root", group="root")


def _files(root: Path) -> Iterator[tuple[str, Path, int]]:
    """Every file below a folder: its name there, where it is, its size in bytes. What MLflow keeps of deleted runs (.trash) stays out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if each != ".trash")
        for link in (each for each in folders if (Path(folder) / each).is_symlink()):
            raise OnPremError(f"{folder}/{link} is a link to another folder", "put the folder itself in its place, then run this again")
        for name in sorted(names):
            path = Path(folder) / name
            try:
                path.name.encode()
            except UnicodeEncodeError:
                raise OnPremError(f"{folder} holds a file whose name is not UTF-8: {name!r}", "rename it, then run this again") from None
            if path.is_file():
                yield path.relative_to(root).as_posix(), path, path.stat().st_size
