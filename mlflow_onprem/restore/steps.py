"""The steps of a restore and of undoing one. Each may be done again: a run that was killed is finished by the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_onprem.backup import context, create, database, objects, transfer
from mlflow_onprem.backup import manifest as manifests
from mlflow_onprem.backup.context import Workplace
from mlflow_onprem.backup.encryption import Keys
from mlflow_onprem.backup.manifest import Manifest
from mlflow_onprem.backup.objects import Entry
from mlflow_onprem.backup.repository import Folder, Repository
from mlflow_onprem.core import engine
from mlflow_onprem.core.engine import Event
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.core.resource import Phase
from mlflow_onprem.restore import state
from mlflow_onprem.restore.state import Journal
from mlflow_onprem.settings import config_file
from mlflow_onprem.settings.config import BackupSection
from mlflow_onprem.stack import health, minio
from mlflow_onprem.stack.assembly import assemble
from mlflow_onprem.system import stopped
from mlflow_onprem.system.local_host import LocalHost

Watch = Callable[[Event], None]


@dataclass
class Restoring:
    """A restore on its way."""

    host: LocalHost
    config_path: str | None
    repository: Repository
    keys: Keys
    found: Manifest | None
    journal: Journal
    watch: Watch
    with_rescue: bool
    contents: dict[str, Any] = field(default_factory=dict)
    copied: int = 0
    copied_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def manifest(self) -> Manifest:
        """The backup; undoing needs nothing of it, and it may not even be reachable then."""
        assert self.found is not None
        return self.found

    def enter(self) -> Workplace:
        """This host as its files are now."""
        return context.enter(self.host, config_file.load(self.config_path).config, self.repository, self.keys)


def check(making: Restoring) -> None:
    """Everything that can be known to fail: checksums, the key, versions. Changes nothing but the folder of this restore."""
    state.fetch_all(making.host, making.repository, making.manifest, making.keys)
    making.contents = state.contents(making.host)
    if making.journal.bare:
        return
    state.check_versions(making.manifest, config_file.load(making.config_path).config)
    state.check_rotation(making.host)


def check_empty(making: Restoring) -> None:
    """Raises Refused where there is something to lose."""
    work = making.enter()
    try:
        runs = work.server.sql.query(work.databases()["mlflow"], "SELECT count(*) FROM runs")[0][0]
        if runs or next(work.bucket.list(), None) is not None:
            raise Refused(f"this host is not empty: it has {runs} runs and objects", "leave out --into-empty: then what is here is backed up first")
    finally:
        work.assembly.close()


def begin(making: Restoring) -> None:
    """From here on the host changes; the journal says so first."""
    state.write_journal(making.host, making.journal)


def bring_files(making: Restoring) -> None:
    """On a bare host configuration and secrets; on another one nothing yet."""
    if making.journal.bare:
        making.notes += state.unpack_missing(making.host)
        state.check_versions(making.manifest, config_file.load(making.config_path).config)


def bring_services(making: Restoring) -> None:
    """Store, PostgreSQL and environment up; MLflow itself not yet. Databases beside those in use are of no restore that is known: they go."""
    config = config_file.load(making.config_path).config
    if minio.missing_data(making.host, config.minio):
        making.host.remove(minio.FOUNDED)  # a new disk: the store may found itself there, the backup's objects come next
    assembly = assemble(making.host, config)
    try:
        engine.converge(making.host, assembly.stack.only(Phase.DATA.and_before()), making.watch)
    finally:
        assembly.close()
    if not making.journal.ready:
        work = making.enter()
        try:
            work.server.forget(list(work.databases().values()))
        finally:
            work.assembly.close()
        making.journal = making.journal.model_copy(update={"ready": True})
        state.write_journal(making.host, making.journal)


def stop_writers(making: Restoring) -> None:
    """Nothing is written from now on that neither the backup of what is here nor the restored one would have."""
    if not making.journal.bare:
        stopped.stop(making.host, "mlflow.service", (config_file.load(making.config_path).config.mlflow.port,))


def rescue(making: Restoring) -> None:
    """Back up what is here, once: a later run must not take a half-restored host for it."""
    if making.journal.bare or making.journal.rescue is not None or not making.with_rescue:
        return
    work = making.enter()
    try:
        here = context.enter(making.host, work.config, rescue_repository(making.host, work.config.backup), Keys(), work.assembly)
        made = create.create(here, making.watch)
    finally:
        work.assembly.close()
    making.journal = making.journal.model_copy(update={"rescue": made.manifest.id, "rescue_address": made.address})
    state.write_journal(making.host, making.journal)


def copy_objects(making: Restoring) -> None:
    """Every object as the backup has it. Others in the bucket stay, for no row points at them, but for those that would hide one of the backup's."""
    work = making.enter()
    try:
        making.copied, making.copied_bytes = _copy(making, work, making.repository, state.index(making.host))
    finally:
        work.assembly.close()


def restore_databases(making: Restoring) -> None:
    """Each into a fresh database beside the one in use, compared row by row with the dump's moment, then exchanged all at once."""
    work = making.enter()
    try:
        roles = [role for role in making.manifest.databases if role in work.databases()]
        names = [work.databases()[role] for role in roles]
        if all(work.server.exchanged(name) for name in names):
            return
        if work.server.version() < making.manifest.postgres:
            raise Refused(
                f"the backup is of PostgreSQL {making.manifest.postgres}, this host has {work.server.version()}",
                f"a dump goes to the same or a later version only: set version = {making.manifest.postgres} in [postgres]",
            )
        for role, name in zip(roles, names, strict=True):
            work.server.restore(state.dump(making.host, role), name, work.owner())
            fresh = database.fresh_name(name)
            with work.server.snapshot(fresh):
                unlike = database.differences(making.contents["tables"][role], work.server.tables(fresh))
            if unlike:
                raise OnPremError(f"the restored database {name} is not what was dumped: {'; '.join(unlike[:5])}", "take another backup")
        work.server.exchange(names)
    finally:
        work.assembly.close()


def bring_secrets(making: Restoring) -> None:
    """On a host with a stack: what opens the restored databases (MLflow's own secrets); the store's and PostgreSQL's passwords stay this host's."""
    if not making.journal.bare:
        making.notes += state.merge_credentials(making.host)


def serve(making: Restoring) -> None:
    """The same lists as install: tables brought to this MLflow's revision, services up; then asked whether they serve."""
    config = config_file.load(making.config_path).config
    if minio.missing_data(making.host, config.minio):
        making.host.remove(minio.FOUNDED)  # a new disk: the store may found itself there, the backup's objects come next
    assembly = assemble(making.host, config)
    try:
        engine.converge(making.host, assembly.migrating, making.watch)
        health.wait(making.host, assembly.to.systemd, assembly.probes())
    finally:
        assembly.close()


def finish(making: Restoring) -> None:
    """Nothing leads back any more but the backup of what was here."""
    work = making.enter()
    try:
        work.server.forget(list(work.databases().values()))
    finally:
        work.assembly.close()
    state.forget(making.host)


def secrets_back(making: Restoring) -> None:
    """The credentials that were here."""
    state.credentials_back(making.host)


def databases_back(making: Restoring) -> None:
    """The databases that were in use, where they were exchanged."""
    stopped.stop(making.host, "mlflow.service", (config_file.load(making.config_path).config.mlflow.port,))
    work = making.enter()
    try:
        names = [name for name in work.databases().values() if work.server.exchanged(name)]
        if names:
            work.server.exchange(names, back=True)
    finally:
        work.assembly.close()


def objects_back(making: Restoring) -> None:
    """Objects that were overwritten, from the backup of what was here."""
    if making.journal.rescue is None:
        return
    work = making.enter()
    try:
        here = Folder(making.host, making.journal.rescue_address or "")
        before = manifests.read(here, making.journal.rescue)
        index = transfer.fetch(here, before, transfer.INDEX, work.spool / "rescue")
        _copy(making, work, here, index)
    finally:
        work.assembly.close()


def rescue_repository(host: LocalHost, settings: BackupSection) -> Repository:
    """Where the backup of what is here goes: a folder of this host."""
    default = BackupSection().to
    return Folder(host, default if settings.to.startswith("s3://") else settings.to)


def _copy(making: Restoring, work: Workplace, source: Repository, index: Path) -> tuple[int, int]:
    """Objects that are not in the bucket as the index has them; their count and bytes. Both sides are walked in the order of keys."""
    copied = done = 0
    in_the_way = sorted(set(objects.strangers(objects.pair(objects.read_index(index), work.bucket.list()))))
    for key in in_the_way:
        work.bucket.remove(key)
    if in_the_way:
        where = f"; the backup {making.journal.rescue} of what was here has them" if making.journal.rescue else ""
        making.notes.append(
            f"{len(in_the_way)} objects in the bucket that are not in the backup were removed, since they would have hidden objects "
            f"that are, or been hidden by them ({in_the_way[0]}){where}"
        )

    def count(size: int) -> None:
        nonlocal done
        done += size
        making.host.progress("copy objects", done, making.found.objects.bytes if making.found else 0)

    def lacks(both: tuple[Entry | None, Entry | None]) -> bool:
        wanted, have = both
        return wanted is not None and not (have is not None and (have.etag, have.size) == (wanted.etag, wanted.size))

    def put(both: tuple[Entry | None, Entry | None]) -> int:
        if both[0] is None or not lacks(both):
            return 0
        work.bucket.copy_from(source, both[0], count)
        return 1

    for each in objects.in_order(objects.pair(objects.read_index(index), work.bucket.list()), put, lacks):
        copied += each
    return copied, done
