"""`backup list`, `backup prune`, and what `status` is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mlflow_onprem.backup import manifest as manifests
from mlflow_onprem.backup import objects, retention, summary
from mlflow_onprem.backup.manifest import Manifest, Proof
from mlflow_onprem.backup.repository import POOL, SPOOL, Repository
from mlflow_onprem.backup.transfer import INDEX, fetch
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.settings.config import BackupSection
from mlflow_onprem.system.local_host import LocalHost


@dataclass(frozen=True)
class Listed:
    """What a repository holds, oldest first. `unfinished` are left-overs of runs that died; the next backup removes them. `unreadable` stay."""

    address: str
    backups: tuple[tuple[Manifest, Proof | None], ...]
    unfinished: tuple[str, ...]
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class Pruned:
    """What was removed: backups, and the bytes of objects that no other backup holds."""

    address: str
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    freed: int


def listed(repository: Repository) -> Listed:
    """Everything in the repository."""
    found = manifests.every(repository)
    proven = tuple((each, manifests.proof(repository, each.id)) for each in found.whole)
    return Listed(repository.address, proven, found.unfinished, found.unreadable)


def remember(host: LocalHost, repository: Repository) -> None:
    """Tell `status`."""
    summary.write(host, repository.address, listed(repository).backups)


def prune(host: LocalHost, repository: Repository, rules: BackupSection, watch: Callable[[str], None] = lambda _: None) -> Pruned:
    """Remove what the rules do not keep, then the objects that nothing kept needs. Call it with the lock held; killed, the next one goes on."""
    found = listed(repository)
    if found.unreadable:
        raise Refused(
            f"nothing is removed: what backup {found.unreadable[0]} needs is not known, its manifest cannot be read by this release",
            f"use the release that made it, or, if nobody needs it, remove it: backups/{found.unreadable[0]} in {found.address}",
        )
    dated = [(each.id, each.created, proof is not None) for each, proof in found.backups]
    stay = retention.kept(dated, rules.keep_daily, rules.keep_weekly, rules.keep_monthly)
    gone = [each for each, _, _ in dated if each not in stay]
    for backup in [*gone, *found.unfinished]:
        watch(f"removing backup {backup}")
        repository.remove(list(manifests.files_of(repository, backup)))
    freed = _sweep_pool(host, repository, [each for each, _ in found.backups if each.id in stay]) if gone or found.unfinished else 0
    return Pruned(repository.address, tuple(gone), tuple(sorted(stay)), freed)


def _sweep_pool(host: LocalHost, repository: Repository, stay: list[Manifest]) -> int:
    """Remove from the pool what no backup refers to; returns the bytes. What is referred to is looked up on disk, not held in memory."""
    host.remove(SPOOL)
    host.mkdir(SPOOL, mode=0o700, owner="root", group="root")
    spool = host.local(SPOOL)
    freed = 0
    with closing(sqlite3.connect(spool / "needed.sqlite")) as needed:
        needed.execute("PRAGMA journal_mode = OFF")
        needed.execute("CREATE TABLE pool (sha256 TEXT PRIMARY KEY) WITHOUT ROWID")
        for backup in stay:
            index = fetch(repository, backup, INDEX, spool / "index")
            needed.executemany("INSERT OR IGNORE INTO pool VALUES (?)", ((each.sha256,) for each in objects.read_index(index)))

        def unneeded() -> Iterator[str]:
            nonlocal freed
            for name, size in repository.names(POOL):
                if needed.execute("SELECT 1 FROM pool WHERE sha256 = ?", (Path(name).name,)).fetchone() is None:
                    freed += size
                    yield name

        repository.remove(unneeded())
    host.remove(SPOOL)
    return freed


def newest(repository: Repository) -> str:
    """The ID of the newest backup. Raises OnPremError where there is none."""
    whole = manifests.every(repository).whole
    if not whole:
        raise OnPremError(f"there is no backup in {repository.address}", "make one: sudo mlflow-onprem backup create")
    return max(whole, key=lambda each: each.created).id
