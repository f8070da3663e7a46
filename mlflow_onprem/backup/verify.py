"""`backup verify`: every checksum read again, and, with `--boot`, a restore in a disposable host: only that proves a backup."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from mlflow_onprem.backup import manifest as manifests
from mlflow_onprem.backup import objects
from mlflow_onprem.backup.bucket import Bucket
from mlflow_onprem.backup.manifest import Manifest, Proof
from mlflow_onprem.backup.objects import Entry
from mlflow_onprem.backup.repository import SPOOL, Missing, Repository, pool_name
from mlflow_onprem.backup.transfer import DAMAGED, INDEX, fetch, put_bytes
from mlflow_onprem.system.local_host import LocalHost

#: How far the clock of a store elsewhere may be off.
CLOCKS = timedelta(minutes=15)


@dataclass(frozen=True)
class Verified:
    """What was read; `damaged` in words, `proof` where it was also restored. `bytes` counts files and objects.

    `lacking` are keys that were in the bucket when the backup was made and are not in it, with `compared` false where the bucket could not be looked
    at; `unsure` says why nobody can know from the backup alone that it is complete, and is empty where one can.
    """

    id: str
    address: str
    files: int
    objects: int
    bytes: int
    damaged: tuple[str, ...]
    seconds: float
    proof: Proof | None = None
    lacking: tuple[str, ...] = ()
    compared: bool = False
    unsure: str = ""


def verify(host: LocalHost, repository: Repository, backup: str, bucket: Callable[[Manifest], Bucket | None] = lambda _: None) -> Verified:
    """Read all of a backup and compare every checksum. What is damaged is noted in the repository: the next backup copies it again.

    `bucket` is where the backup's objects are from, if it is at hand: a backup is compared with it, for the listing it was made from may have left
    objects out. Call it with the lock held. Raises ConfigError for a backup that is not there.
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
    lacking, compared = [], False
    if not any(line.startswith(INDEX) for line in damaged):
        with _index(host, repository, manifest) as index:
            bad = _objects(host, repository, manifest, index)
            source = bucket(manifest)
            compared = source is not None and source.against == "disk"
            lacking = lacks(source, manifest, index) if source is not None else []
        damaged += [f"object {key}: its content is missing or not what was copied" for key in bad.values()]
    if damaged:
        known = set(json.loads(repository.read(DAMAGED) or b"[]"))
        put_bytes(host, repository, DAMAGED, json.dumps(sorted(known | set(bad))).encode())
    if damaged or lacking:
        repository.remove([manifests.name(backup, manifests.PROVEN)])
    seconds = time.monotonic() - started
    size = total + manifest.objects.bytes
    found = Verified(backup, repository.address, len(manifest.files), manifest.objects.count, size, tuple(damaged), seconds)
    return replace(found, lacking=tuple(lacking), compared=compared, unsure=_unsure(manifest, compared=compared))


def lacks(bucket: Bucket, manifest: Manifest, index: Path) -> list[str]:
    """Keys of objects that are in the bucket unchanged since before the backup, and not in its index."""
    before = manifest.created - (timedelta() if bucket.against == "disk" else CLOCKS)
    missing = []
    for there, kept in objects.pair(bucket.list(), objects.read_index(index)):
        if there is not None and kept is None and there.modified and datetime.fromisoformat(there.modified) < before:
            missing.append(there.key)
    return missing


def _unsure(manifest: Manifest, *, compared: bool) -> str:
    if manifest.objects.against == "disk" or compared:
        return ""
    if manifest.objects.against == "names":
        return (
            "its objects are those that an object store elsewhere listed, and those that the database names: where that store keeps a file beside "
            "a folder of its name, as MinIO does, and the folder's files have names that the database does not hold, they may be missing"
        )
    return (
        "it was made by a release that trusted the object store's listing: files in a folder beside a file of the folder's name may be missing, "
        "and the backup alone cannot tell. Verify it on the host it is of, or make a new one: sudo mlflow-onprem backup create"
    )


def prove(host: LocalHost, repository: Repository, verified: Verified, boot: Callable[[Manifest], Proof]) -> Verified:
    """Restore it with `boot` and note that in the repository. Raises OnPremError where the restored stack is not what was backed up."""
    if verified.damaged or verified.lacking:
        return verified
    proof = boot(manifests.read(repository, verified.id))
    put_bytes(host, repository, manifests.name(verified.id, manifests.PROVEN), (proof.model_dump_json(indent=1) + "\n").encode())
    return replace(verified, proof=proof)


def _right(repository: Repository, backup: str, name: str, sha256: str) -> bool:
    return _sha256(repository, manifests.name(backup, name)) == sha256


@contextmanager
def _index(host: LocalHost, repository: Repository, manifest: Manifest) -> Iterator[Path]:
    host.remove(SPOOL)
    host.mkdir(SPOOL, mode=0o700, owner="root", group="root")
    try:
        yield fetch(repository, manifest, INDEX, host.local(SPOOL) / "index")
    finally:
        host.remove(SPOOL)


def _objects(host: LocalHost, repository: Repository, manifest: Manifest, index: Path) -> dict[str, str]:
    """Digests of content that is not as it was copied, each with a key that has it."""
    bad: dict[str, str] = {}
    done = 0

    def check(entry: Entry) -> tuple[Entry, bool]:
        return entry, _sha256(repository, pool_name(entry.sha256)) == entry.sha256

    for entry, right in objects.in_order(objects.read_index(index), check, lambda _: True):
        done += entry.size
        host.progress("read objects", done, manifest.objects.bytes)
        if not right:
            bad[entry.sha256] = entry.key
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
