"""The steps of a restore and their undo (core/procedure.py). Each may be done again: a run that was killed is finished by the next."""

from __future__ import annotations

import dataclasses
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
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.core.procedure import Record, Step, Watch
from mlflow_onprem.core.resource import Phase
from mlflow_onprem.restore import state
from mlflow_onprem.restore.state import Journal
from mlflow_onprem.settings.config import BackupSection, Config
from mlflow_onprem.stack import health, minio
from mlflow_onprem.stack.assembly import Assembly, assemble
from mlflow_onprem.system import stopped
from mlflow_onprem.system.local_host import LocalHost

MLFLOW = "mlflow.service"


@dataclass
class Restoring:
    """A restore on its way. Configuration and connections are read and opened once: whoever edits a file meanwhile changes nothing."""

    host: LocalHost
    load: Callable[[], Config]
    repository: Repository
    keys: Keys
    record: Record[Journal]
    watch: Watch
    with_rescue: bool
    found: Manifest | None = None
    contents: dict[str, Any] = field(default_factory=dict)
    copied: int = 0
    copied_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    _config: Config | None = None
    _assembly: Assembly | None = None
    _work: Workplace | None = None

    @property
    def manifest(self) -> Manifest:
        """The backup; undoing needs nothing of it, and it may not even be reachable then."""
        assert self.found is not None
        return self.found

    @property
    def config(self) -> Config:
        """Read when it is first needed: on a bare host it comes with the backup."""
        if self._config is None:
            self._config = self.load()
        return self._config

    @property
    def assembly(self) -> Assembly:
        """The stack's lists, made when they are first needed."""
        if self._assembly is None:
            if minio.missing_data(self.host, self.config.minio):
                self.host.remove(minio.FOUNDED)  # a new disk: the store may found itself there, the backup's objects come next
            self._assembly = assemble(self.host, self.config)
        return self._assembly

    @property
    def work(self) -> Workplace:
        """The stack's data; only where its services are up."""
        if self._work is None:
            self._work = context.enter(self.host, self.config, self.repository, self.keys, self.assembly)
        return self._work

    def close(self) -> None:
        """End what is open; what is needed later is opened anew, with the credentials of then."""
        if self._assembly is not None:
            self._assembly.close()
        self._assembly = self._work = None


def check(run: Restoring) -> None:
    """Everything that can be known to fail: checksums, the key, versions. Changes nothing but the folder of this restore."""
    state.fetch_all(run.host, run.repository, run.manifest, run.keys)
    run.contents = state.contents(run.host)
    if run.record.journal.bare:
        return
    state.check_versions(run.manifest, run.config)
    state.check_rotation(run.host)


def check_empty(run: Restoring) -> None:
    """Raises Refused where there is something to lose."""
    runs = run.work.server.sql.query(run.work.databases()["mlflow"], "SELECT count(*) FROM runs")[0][0]
    if runs or next(run.work.bucket.list(), None) is not None:
        raise Refused(f"this host is not empty: it has {runs} runs and objects", "leave out --into-empty: then what is here is backed up first")
    run.with_rescue = False


def bring_files(run: Restoring) -> None:
    """On a bare host: configuration and secrets."""
    run.notes += state.unpack_missing(run.host)
    state.check_versions(run.manifest, run.config)


def bring_services(run: Restoring) -> None:
    """Store, PostgreSQL and environment up; MLflow itself not yet. Databases beside those in use are of no restore that is known: they go."""
    engine.converge(run.host, run.assembly.stack.only(Phase.DATA.and_before()), run.watch)
    if not run.record.journal.ready:
        run.work.server.forget(list(run.work.databases().values()))
        run.record.save(ready=True)


def stop_writers(run: Restoring) -> None:
    """Nothing is written from now on that neither the backup of what is here nor the restored one would have, after a reboot neither."""
    run.host.run(["systemctl", "disable", MLFLOW], ok=(0, 1, 5))  # where the unit is what is broken there is nothing to disable
    stopped.stop(run.host, MLFLOW, (run.config.mlflow.port,))
    run.assembly.to.systemd.forget()


def rescue(run: Restoring) -> None:
    """Back up what is here, once: a later run must not take a half-restored host for it."""
    if run.record.journal.rescue is not None or not run.with_rescue:
        return
    here = dataclasses.replace(run.work, repository=rescue_repository(run.host, run.config.backup), keys=Keys())
    made = create.create(here, run.watch)
    run.record.save(rescue=made.manifest.id, rescue_address=made.address)


def copy_objects(run: Restoring) -> None:
    """Every object as the backup has it. Others in the bucket stay, for no row points at them, but for those that would hide one of the backup's."""
    run.copied, run.copied_bytes = _copy(run, run.repository, state.index(run.host))


def restore_databases(run: Restoring) -> None:
    """Each into a fresh database beside the one in use, compared row by row with the dump's moment, then exchanged all at once."""
    server, databases = run.work.server, run.work.databases()
    roles = [role for role in run.manifest.databases if role in databases]
    names = [databases[role] for role in roles]
    if all(server.exchanged(name) for name in names):
        return
    if server.version() < run.manifest.postgres:
        raise Refused(
            f"the backup is of PostgreSQL {run.manifest.postgres}, this host has {server.version()}",
            f"a dump goes to the same or a later version only: set version = {run.manifest.postgres} in [postgres]",
        )
    for role, name in zip(roles, names, strict=True):
        server.restore(state.dump(run.host, role), name, run.work.owner())
        fresh = database.fresh_name(name)
        with server.snapshot(fresh):
            unlike = database.differences(run.contents["tables"][role], server.tables(fresh))
        if unlike:
            raise OnPremError(f"the restored database {name} is not what was dumped: {'; '.join(unlike[:5])}", "take another backup")
    server.exchange(names)


def bring_secrets(run: Restoring) -> None:
    """On a host with a stack: what opens the restored databases (MLflow's own secrets); the store's and PostgreSQL's passwords stay this host's."""
    run.close()
    run.notes += state.merge_credentials(run.host)


def serve(run: Restoring) -> None:
    """The same lists as install: tables brought to this MLflow's revision, services up; then asked whether they serve."""
    engine.converge(run.host, run.assembly.migrating, run.watch)
    health.wait(run.host, run.assembly.to.systemd, run.assembly.probes())


def finish(run: Restoring) -> None:
    """The databases that were in use go: from here on what was here comes back from its backup only."""
    run.work.server.forget(list(run.work.databases().values()))


def secrets_back(run: Restoring) -> None:
    """The credentials that were here."""
    run.close()
    state.credentials_back(run.host)


def databases_back(run: Restoring) -> None:
    """The databases that were in use, where they were exchanged; the restored ones go."""
    stop_writers(run)
    if not run.record.journal.ready:
        return  # what waits beside those in use is not of this restore
    server, names = run.work.server, list(run.work.databases().values())
    exchanged = [name for name in names if server.exchanged(name)]
    if exchanged:
        server.exchange(exchanged, back=True)
    server.forget(names)


def objects_back(run: Restoring) -> None:
    """Objects that were overwritten, from the backup of what was here."""
    journal = run.record.journal
    if journal.rescue is None:
        return
    stop_writers(run)  # somebody may have started it
    here = Folder(run.host, journal.rescue_address or "")
    before = manifests.read(here, journal.rescue)
    _copy(run, here, transfer.fetch(here, before, transfer.INDEX, run.host.local(f"{state.FOLDER}/rescue")))


def checks(*, empty: bool) -> tuple[Step[Restoring], ...]:
    """What is looked at before the first change."""
    return (Step("check backup", check), *((Step("check that this host is empty", check_empty),) if empty else ()))


def onto_bare() -> tuple[Step[Restoring], ...]:
    """A host without a stack: there is nothing to lose, so a restore that ended half-way goes on and never back."""
    return (
        Step("bring files", bring_files, again=True),
        Step("bring services", bring_services, again=True),
        Step("copy objects", copy_objects, again=True),
        Step("restore databases", restore_databases),
        Step("start services", serve),
        Step("finish", finish, final=True),
    )


def onto_stack() -> tuple[Step[Restoring], ...]:
    """A host with a stack: read from the bottom up, the undo of each step is the way back."""
    return (
        Step("bring services", bring_services, again=True),
        Step("stop MLflow", stop_writers, undo=serve, again=True),  # somebody may start it
        Step("back up what is here", rescue),
        Step("copy objects", copy_objects, undo=objects_back, again=True),
        Step("restore databases", restore_databases, undo=databases_back),
        Step("bring secrets", bring_secrets, undo=secrets_back),
        Step("start services", serve),
        Step("finish", finish, final=True),
    )


def rescue_repository(host: LocalHost, settings: BackupSection) -> Repository:
    """Where the backup of what is here goes: a folder of this host."""
    default = BackupSection().to
    return Folder(host, default if settings.to.startswith("s3://") else settings.to)


def _copy(run: Restoring, source: Repository, index: Path) -> tuple[int, int]:
    """Objects that are not in the bucket as the index has them; their count and bytes. Both sides are walked in the order of keys."""
    work, copied, done = run.work, 0, 0
    in_the_way = sorted(set(objects.strangers(objects.pair(objects.read_index(index), work.bucket.list()))))
    for key in in_the_way:
        work.bucket.remove(key)
    if in_the_way:
        where = f"; the backup {run.record.journal.rescue} of what was here has them" if run.record.journal.rescue else ""
        run.notes.append(
            f"{len(in_the_way)} objects in the bucket that are not in the backup were removed, since they would have hidden objects "
            f"that are, or been hidden by them ({in_the_way[0]}){where}"
        )

    def count(size: int) -> None:
        nonlocal done
        done += size
        run.host.progress("copy objects", done, run.found.objects.bytes if run.found else 0)

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
