"""`backup verify`: every checksum read again, and, with `--boot`, a restore in a disposable host: only that proves a backup."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from mlflow_onprem.backup import manifest as manifests
from mlflow_onprem.backup import objects
from mlflow_onprem.backup.manifest import Manifest, Proof
from mlflow_onprem.backup.objects import Entry
from mlflow_onprem.backup.repository import SPOOL, Missing, Repository, pool_name
from mlflow_onprem.backup.transfer import DAMAGED, INDEX, fetch, put_bytes
from mlflow_onprem.host import LocalHost


@dataclass(frozen=True)
class Verified:
    """What was read; `damaged` in words, `proof` where it was also restored. `bytes` counts files and objects."""

    id: str
    address: str
    files: int
    objects: int
    bytes: int
    damaged: tuple[str, ...]
    seconds: float
    proof: Proof | None = None


def verify(host: LocalHost, repository: Repository, backup: str) -> Verified:
    """Read all of a backup and compare every checksum. What is damaged is noted in the repository: the next backup copies it again.

    Call it with the lock held. Raises ConfigError for a backup that is not there.
    """
    started = time.monotonic()
    manifest = manifests.read(repository, backup)
    damaged = [
        f"{name}: its checksum is wrong or it is missing"
        for name, part in manifest.files.items()
        if not _right(repository, backup, name, part.sha256)
    ]
    total = sum(part.size for part in manifest.files.values())
    bad: dict[str, str] = {}
    if not any(line.startswith(INDEX) for line in damaged):
        bad = _objects(host, repository, manifest)
        damaged += [f"object {key}: its content is missing or not what was copied" for key in bad.values()]
    if damaged:
        known = set(json.loads(repository.read(DAMAGED) or b"[]"))
        put_bytes(host, repository, DAMAGED, json.dumps(sorted(known | set(bad))).encode())
        repository.remove([manifests.name(backup, manifests.PROVEN)])
    seconds = time.monotonic() - started
    return Verified(backup, repository.address, len(manifest.files), manifest.objects.count, total + manifest.objects.bytes, tuple(damaged), seconds)


def prove(host: LocalHost, repository: Repository, verified: Verified, boot: Callable[[Manifest], Proof]) -> Verified:
    """Restore it with `boot` and note that in the repository. Raises OnPremError where the restored stack is not what was backed up."""
    if verified.damaged:
        return verified
    proof = boot(manifests.read(repository, verified.id))
    put_bytes(host, repository, manifests.name(verified.id, manifests.PROVEN), (proof.model_dump_json(indent=1) + "\n").encode())
    return replace(verified, proof=proof)


def _right(repository: Repository, backup: str, name: str, sha256: str) -> bool:
    return _sha256(repository, manifests.name(backup, name)) == sha256


def _objects(host: LocalHost, repository: Repository, manifest: Manifest) -> dict[str, str]:
    """Digests of content that is not as it was copied, each with a key that has it."""
    host.remove(SPOOL)
    host.mkdir(SPOOL, mode=0o700, owner="root", group="root")
    index = fetch(repository, manifest, INDEX, host.local(SPOOL) / "index")
    bad: dict[str, str] = {}
    done = 0

    def check(entry: Entry) -> tuple[Entry, bool]:
        return entry, _sha256(repository, pool_name(entry.sha256)) == entry.sha256

    for entry, right in objects.in_order(objects.read_index(index), check, lambda _: True):
        done += entry.size
        host.progress("read objects", done, manifest.objects.bytes)
        if not right:
            bad[entry.sha256] = entry.key
    host.remove(SPOOL)
    return bad


def _sha256(repository: Repository, name: str) -> str:
    """Of a file in the repository; empty where it is missing."""
    digest = hashlib.sha256()
    try:
        for chunk in repository.open(name):
            digest.update(chunk)
    except Missing:
        return ""
    return digest.hexdigest()
