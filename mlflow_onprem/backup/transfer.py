"""Files of a backup to and from this host."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mlflow_onprem.backup import manifest as manifests
from mlflow_onprem.backup.manifest import Manifest
from mlflow_onprem.backup.repository import SPOOL, Repository
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host

#: The list of objects.
INDEX = "objects.jsonl.gz"
#: Content of the pool that was found damaged, by sha256: the next backup copies it again.
DAMAGED = "damaged.json"


def fetch(repository: Repository, of: Manifest, file: str, target: Path) -> Path:
    """A backup's own file into a file of this host. Raises OnPremError where its checksum is not the manifest's."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for chunk in repository.open(manifests.name(of.id, file)):
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != of.files[file].sha256:
        raise OnPremError(f"{file} of backup {of.id} is damaged: its checksum is wrong", "take another backup: `mlflow-onprem backup list`")
    return target


def put_bytes(host: Host, repository: Repository, name: str, content: bytes) -> None:
    """A small file into the repository."""
    host.mkdir(SPOOL, mode=0o700, owner="root", group="root")
    path = f"{SPOOL}/small"
    host.write(path, content, mode=0o600, owner="root", group="root")
    repository.put(name, host.local(path))
    host.remove(path)
