"""`backup create`: everything it takes to start again on a bare host, while clients go on writing.

Objects, then the databases, then what objects came meanwhile: whatever a row of the dump points at was in the bucket when one of the two passes
looked, so it is in the backup, even where somebody deletes it meanwhile. What can slip through is an object made and deleted between the
two looks, which no client can have either.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mlflow_onprem import __version__
from mlflow_onprem.backup import encryption, objects
from mlflow_onprem.backup import manifest as manifests
from mlflow_onprem.backup.context import Workplace
from mlflow_onprem.backup.manifest import FilePart, Manifest, ObjectsPart
from mlflow_onprem.backup.objects import Tally
from mlflow_onprem.backup.transfer import DAMAGED, INDEX, fetch
from mlflow_onprem.core import procedure
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.core.procedure import Procedure, Step, Watch
from mlflow_onprem.settings import credentials, topology
from mlflow_onprem.settings.topology import LocalPostgres, LocalStore
from mlflow_onprem.system.hashing import sha256_of

ATTEMPTS = 5
SAMPLE = 20  # runs whose values a proof compares
RESERVE = 256 << 20  # bytes a backup leaves free
REVISIONS = {"mlflow": "SELECT version_num FROM alembic_version", "auth": "SELECT version_num FROM alembic_version_auth"}

STOPPED = "what is unfinished is not listed, and what was copied serves the next backup"


@dataclass(frozen=True)
class Created:
    """A new backup. `retries` is how often somebody deleted objects under it, `hidden` some objects with those that hide them in listings."""

    manifest: Manifest
    address: str
    retries: int
    hidden: tuple[tuple[str, str], ...] = ()


@dataclass
class _Making:
    """A backup on its way."""

    work: Workplace
    id: str
    created: datetime
    started: float
    new: Tally = field(default_factory=Tally)
    revisions: dict[str, str] = field(default_factory=dict)
    retries: int = 0
    credentials: bytes | None = field(default=None, repr=False)
    manifest: Manifest | None = None


def create(work: Workplace, watch: Watch = lambda _: None) -> Created:
    """Make one. Call it with the lock held. Raises OnPremError; what is unfinished is never listed, and what it copied serves the next one."""
    now = manifests.now()
    run = _Making(work, manifests.new_id(now), now, time.monotonic())
    procedure.run(Procedure("backup", steps(), "sudo mlflow-onprem backup create", watch, STOPPED), run)
    assert run.manifest is not None
    return Created(run.manifest, work.repository.address, run.retries, tuple(run.new.hidden))


def steps() -> tuple[Step[_Making], ...]:
    """Without a journal: nothing in use is changed, so what was interrupted is removed by the next one, which begins anew."""
    return (
        Step("look", tidy),
        Step("copy objects", copy_before),
        Step("dump databases", dump),
        Step("copy new objects", copy_new),
        Step("pack secrets", pack),
        Step("publish", publish),
    )


def tidy(run: _Making) -> None:
    """Remove what runs that died have left, and fetch the newest backup's index: the spool's `known`."""
    repository, spool = run.work.repository, run.work.spool
    if run.work.assembly.credentials.rotation is not None:
        raise Refused("a rotation of credentials is not finished", "finish it first: sudo mlflow-onprem rotate-credentials")
    run.credentials = run.work.host.read(credentials.PATH)
    repository.free()
    repository.settle()
    found = manifests.every(repository)
    for backup in found.unfinished:
        repository.remove(list(manifests.files_of(repository, backup)))
    alike = [each for each in found.whole if each.bucket == run.work.bucket.name]
    if alike:
        fetch(repository, alike[-1], INDEX, spool / "known")
    else:
        objects.write_index(spool / "known", ())


def copy_before(run: _Making) -> None:
    """The long pass. Objects that are gone before they are copied were deleted before the dump."""
    damaged = frozenset(json.loads(run.work.repository.read(DAMAGED) or b"[]"))
    run.new = _pass(run, known="known", to="before", keep_missing=False, damaged=damaged)


def dump(run: _Making) -> None:
    """Both databases as of now, with what proves a restored one to be the same."""
    run.created = manifests.now()
    work, spool = run.work, run.work.spool
    contents: dict[str, Any] = {"tables": {}}
    for role, database in work.databases().items():
        with work.server.snapshot(database) as snapshot:
            work.server.dump(database, snapshot, spool / f"{role}.dump")
            contents["tables"][role] = work.server.tables(database)
            run.revisions[role] = str(work.server.sql.query(database, REVISIONS[role])[0][0])
            if role == "mlflow":
                contents["sample"] = sample(work, database)
    (spool / "contents.json").write_text(json.dumps(contents))


def copy_new(run: _Making) -> None:
    """What came since; where some of it was deleted under the copying, rows of the dump may point at it: it is made again."""
    left = copy_after(run)
    while left:
        run.retries += 1
        if run.retries == ATTEMPTS:
            raise OnPremError(
                f"objects were deleted while they were copied, {ATTEMPTS} times in a row ({left[0]})",
                "something on this host deletes artifacts all the time (a lifecycle rule?): stop it, then run this again",
            )
        run.work.host.say(f"{len(left)} objects were deleted meanwhile ({left[0]}): dumping the databases again")
        dump(run)
        left = copy_after(run)


def copy_after(run: _Making) -> list[str]:
    """What came since the first pass; what was deleted since is kept. Returns keys that are lost to a deletion in this very pass."""
    spool = run.work.spool
    tally = _pass(run, known="before", to=INDEX, keep_missing=True)
    tally.new_count, tally.new_bytes = tally.new_count + run.new.new_count, tally.new_bytes + run.new.new_bytes
    run.new = tally
    if tally.vanished:
        (spool / INDEX).replace(spool / "before")
    return tally.vanished


def pack(run: _Making) -> None:
    """Configuration and secrets, roles; encrypted where there is a key. What is not secret stays readable: the index and the manifest."""
    work, spool = run.work, run.work.spool
    if work.host.read(credentials.PATH) != run.credentials:
        raise OnPremError("credentials were rotated while the backup was made: its databases and its secrets do not belong together", "run it again")
    config = work.config
    named = [config.minio.credentials_file, config.postgres.password_file, config.backup.credentials_file]
    encryption.pack(work.host, spool / "host.tar", [path for path in named if path], [path for path in [config.backup.passphrase_file] if path])
    if isinstance(topology.postgres(config), LocalPostgres):
        work.server.roles(spool / "roles.sql")
    if work.keys.kind == "none":
        return
    sealer = encryption.Sealer(work.keys)
    for path in _secret_files(spool):
        sealer.seal(path)
    if sealer.header is not None:
        (spool / encryption.IDENTITY).write_bytes(sealer.header)


def publish(run: _Making) -> None:
    """Put the files in place, the manifest last: with it the backup exists."""
    work, spool, new = run.work, run.work.spool, run.new
    names = sorted({path.name for path in spool.iterdir()} - {"known", "before", "listed"})
    files = {}
    for each in names:
        path = spool / each
        files[each] = FilePart(size=path.stat().st_size, sha256=sha256_of(path))
        work.repository.put(manifests.name(run.id, each), path)
    work.repository.settle()
    facts, config = work.assembly.facts, work.config
    environment = work.host.readlink("/opt/mlflow-onprem/environments/current") or ""
    done = Manifest(
        format=manifests.FORMAT,
        id=run.id,
        created=run.created,
        seconds=round(time.monotonic() - run.started, 1),
        host=facts.names[0],
        codename=facts.codename,
        made_by=__version__,
        # What runs here, which is not what the configuration wants between an edit of it and the upgrade.
        mlflow=environment.rpartition("-")[0] or config.mlflow.version,
        lock=environment,
        python=facts.python_version,
        object_store=(work.host.readlink("/opt/mlflow-onprem/object-store/current") or "external")
        if isinstance(topology.store(config.minio), LocalStore)
        else "external",
        postgres=work.server.version(),
        bucket=work.bucket.name,
        artifacts=config.mlflow.artifacts,
        databases=work.databases(),
        revisions=run.revisions,
        encryption=work.keys.kind,
        objects=ObjectsPart(
            count=new.count, bytes=new.bytes, new_count=new.new_count, new_bytes=new.new_bytes, beside=new.beside, against=work.bucket.against
        ),
        files=files,
    )
    (spool / manifests.MANIFEST).write_text(done.model_dump_json(indent=1) + "\n")
    work.repository.put(manifests.name(run.id, manifests.MANIFEST), spool / manifests.MANIFEST)
    if work.repository.read(DAMAGED) is not None:
        work.repository.remove([DAMAGED])  # all of it was copied again or is in no bucket any more
    for path in spool.iterdir():
        path.unlink()
    run.manifest = done


def sample(work: Workplace, database: str) -> dict[str, Any]:
    """Some runs with their values, for a proof to look at through MLflow's own API."""
    query = work.server.sql.query
    count = query(database, "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'")[0][0]
    chosen = "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active' ORDER BY md5(run_uuid) LIMIT {limit}"
    runs = [row[0] for row in query(database, chosen, literals={"limit": SAMPLE})]
    values: dict[str, dict[str, dict[str, Any]]] = {run: {"metrics": {}, "params": {}} for run in runs}
    if runs:
        metrics = "SELECT run_uuid, key, value FROM latest_metrics WHERE run_uuid = ANY({runs}) AND NOT is_nan"
        for run, key, value in query(database, metrics, literals={"runs": runs}):
            values[run]["metrics"][key] = value
        for run, key, value in query(database, "SELECT run_uuid, key, value FROM params WHERE run_uuid = ANY({runs})", literals={"runs": runs}):
            values[run]["params"][key] = value
    return {"active_runs": count, "runs": values}


def _pass(run: _Making, *, known: str, to: str, keep_missing: bool, damaged: frozenset[str] = frozenset()) -> Tally:
    work, spool, tally = run.work, run.work.spool, Tally()
    objects.write_index(spool / "listed", work.bucket.list())
    pairs = objects.pair(objects.read_index(spool / "listed"), objects.read_index(spool / known))
    total = sum(new.size for new, old in pairs if new is not None and objects.needs_copy(new, old, damaged))
    free = work.repository.free()
    if free is not None and total + RESERVE > free:
        raise Refused(
            f"{work.repository.address} has {free / 1e9:.1f} GB free and this backup needs {(total + RESERVE) / 1e9:.1f} GB",
            "free some space, remove old backups (`mlflow-onprem backup prune`), or name a larger place with --to",
        )
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        work.host.progress("copy objects" if not keep_missing else "copy new objects", done, total)

    listed, before = objects.read_index(spool / "listed"), objects.read_index(spool / known)
    index = objects.sweep(
        listed, before, lambda each: work.bucket.copy_to(work.repository, each, count), tally, keep_missing=keep_missing, damaged=damaged
    )
    objects.write_index(spool / to, index)
    return tally


def _secret_files(spool: Path) -> list[Path]:
    return [path for path in sorted(spool.iterdir()) if path.suffix in (".dump", ".tar", ".sql") or path.name == "contents.json"]
