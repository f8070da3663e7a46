"""A stack that was built by hand: what is found of it, and the resources that bring it in."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow_onprem import credentials, store_disk
from mlflow_onprem.config import Config
from mlflow_onprem.engine import Stack
from mlflow_onprem.errors import NotVisible, Refused
from mlflow_onprem.facts import Facts
from mlflow_onprem.host import Host
from mlflow_onprem.resource import Resource
from mlflow_onprem.resources.accounts import SystemUser
from mlflow_onprem.resources.adoption import (
    NOTE,
    Adopted,
    ClosedLines,
    Copy,
    CopyState,
    HandStarted,
    OwnedTree,
    TreeState,
    is_ours_to_stop,
    opens_everything,
    stamp,
)  # fmt: skip
from mlflow_onprem.resources.artifact_addresses import ProxiedRoots
from mlflow_onprem.resources.processes import holders
from mlflow_onprem.resources.schema import Schema
from mlflow_onprem.resources.services import Service
from mlflow_onprem.sql import Sql, SqlError
from mlflow_onprem.stages import minio, postgres
from mlflow_onprem.stages.connections import Connections

BACKUPS = "/var/backups/mlflow-onprem"
DEFAULTS = "/etc/default/minio"
OURS = "Written by mlflow-onprem"
PATIENCE = 60.0  # seconds for looking at the names of all artifacts


@dataclass(frozen=True)
class Adoption:
    """What was found. `others` are databases beside MLflow's; `warnings` is what a person must hear."""

    folder: str
    ports: tuple[int, ...]
    tables: bool
    others: tuple[str, ...]
    warnings: tuple[str, ...]


def look(host: Host, config: Config, facts: Facts, sql: Sql) -> Adoption | None:
    """What somebody built here by hand, None on a plain host and on one that is ours. Raises Refused where its artifacts lie in another bucket."""
    if not host.is_root:
        return None
    try:
        note = json.loads(host.read(NOTE) or b"{}")
    except (ValueError, NotVisible):
        note = {}
    if note.get("done") or (not note and host.read(credentials.PATH) is not None):
        return None
    ports = tuple(port for port, program, unit in _ports(config) if any(is_ours_to_stop(each, program, unit) for each in holders(host, port)))
    buckets = _buckets(config, sql)
    unit = (host.read(minio.UNIT) or b"").decode(errors="replace")
    by_hand = bool(unit) and OURS not in unit and config.minio.mode == "local"
    if not (note or ports or buckets is not None or by_hand):
        return None
    foreign = sorted((buckets or set()) - {config.minio.bucket})
    if foreign and config.minio.bucket not in (buckets or set()):
        raise Refused(
            f"the runs on this host keep their artifacts in the bucket {foreign[0]}, and [minio] bucket is {config.minio.bucket}",
            f'set bucket = "{foreign[0]}" in [minio] of /etc/mlflow-onprem/config.toml, then run this again',
        )
    others = _others(config, sql)
    # What was found at the first look: half-way through, some of it is mended already.
    warnings = tuple(note.get("warnings") or _warnings(host, config, facts, unit if by_hand else "", foreign, others))
    return Adoption(note.get("folder") or f"{BACKUPS}/adoption-{stamp()}", ports, buckets is not None, others, warnings)


def facts_of(adoption: Adoption, facts: Facts) -> Facts:
    """A cluster that holds nothing but MLflow is this stack's from now on: its settings and its doors."""
    return facts if adoption.others else dataclasses.replace(facts, postgres_shared=False)


def extend(stack: Stack, adoption: Adoption, config: Config, facts: Facts, to: Connections) -> Stack:
    """The same lists with the adoption's own resources at the places where they have to happen."""
    first, lanes, last = list(stack.first), {name: list(lane) for name, lane in stack.lanes.items()}, list(stack.last)
    cluster = postgres.cluster_of(facts)
    files = (minio.UNIT, DEFAULTS, cluster.conf, cluster.hba, cluster.ident)
    databases = (config.postgres.database,) if adoption.tables and config.postgres.mode == "local" else ()
    kept = CopyState("a dump of the database and every file that is replaced" if databases else "every file that is replaced")
    # The state folder has to be there for the note; it is the last of the folders.
    at = next(at for at, each in enumerate(first) if each.name == "directory:/var/lib/mlflow-onprem") + 1
    hand = [HandStarted(port, program, to.systemd, unit) for port, program, unit in _ports(config)]
    first[at:at] = [Copy(adoption.folder, databases, config.postgres.port, files, adoption.warnings, kept), *hand]
    if config.minio.mode == "local":
        lane = lanes["object store"]
        trees = [OwnedTree(folder, "minio", TreeState("minio")) for folder in minio.data_folders(config.minio) if folder]
        _insert(lane, trees, after=next(each for each in lane if isinstance(each, SystemUser)))
    if config.postgres.mode == "local" and facts.postgres_version:
        lane = lanes["PostgreSQL"]
        block = next(each for each in lane if each.name == f"block:{cluster.hba}")
        _insert(lane, [ClosedLines(cluster.hba, adoption.others)], after=block)
    last = [dataclasses.replace(each, may_migrate=True) if isinstance(each, Schema) else each for each in last]
    if config.mlflow.artifacts != "direct" and config.postgres.mode == "local":
        schema = next(each for each in last if isinstance(each, Schema))
        _insert(last, [ProxiedRoots(to.sql, config.postgres.database, config.minio.bucket)], after=schema)
    service = next(each for each in last if isinstance(each, Service) and each.unit == "mlflow.service")
    _insert(last, [Adopted()], after=service)
    return Stack(tuple(first), {name: tuple(lane) for name, lane in lanes.items()}, tuple(last))


def _insert(items: list[Resource], more: Iterable[Resource], *, after: Resource) -> None:
    at = next(at for at, each in enumerate(items) if each is after) + 1
    items[at:at] = more


def _ports(config: Config) -> tuple[tuple[int, str, str], ...]:
    """Each port with the program that the article had started there, and our unit of it."""
    store = (
        ((config.minio.port, "minio", "minio.service"), (config.minio.console_port, "minio", "minio.service")) if config.minio.mode == "local" else ()
    )
    return ((config.mlflow.port, "mlflow", "mlflow.service"), *store)


def _buckets(config: Config, sql: Sql) -> set[str] | None:
    """Buckets that the tables of a hand-built MLflow name, None where there are no such tables."""
    if config.postgres.mode != "local":
        return None
    statement = "SELECT DISTINCT split_part(artifact_location, '/', 3) FROM experiments WHERE artifact_location LIKE 's3://%'"
    try:
        return {str(name) for (name,) in sql.query(config.postgres.database, statement)}
    except SqlError:
        return None


def _others(config: Config, sql: Sql) -> tuple[str, ...]:
    if config.postgres.mode != "local":
        return ()
    statement = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1"
    try:
        rows = sql.query("postgres", statement)
    except SqlError:
        return ()
    return tuple(str(name) for (name,) in rows if name not in postgres.databases(config))


def _hidden(host: Host, config: Config) -> Iterable[str]:
    """Files that no listing shows: whoever looks at the adopted stack would miss them, and think it was us."""
    until = time.monotonic() + PATIENCE
    try:
        folder = store_disk.bucket_folder(host.local(config.minio.data_dir), config.minio.bucket) if config.minio.mode == "local" else None
        keys = store_disk.keys(folder) if folder is not None else iter(())
        found = list(store_disk.overlaps(itertools.takewhile(lambda _: time.monotonic() < until, keys)))
    except OSError:
        return
    if found:
        hider, key = found[0]
        yield (
            f"{len(found)} artifacts are in no listing of the object store, because a file has the name of their folder ({key}, behind {hider}); "
            "they stay, and can be read by their names. `sudo mlflow-onprem doctor` lists them after the installation and says what to do."
        )


def _warnings(host: Host, config: Config, facts: Facts, unit: str, foreign: list[str], others: tuple[str, ...]) -> Iterable[str]:
    settings = unit + (host.read(DEFAULTS) or b"").decode(errors="replace")
    if unit and ("minioadmin" in settings or "MINIO_ROOT_USER" not in settings):
        yield "the object store ran with minioadmin:minioadmin; new passwords are in force now. Whoever used that account has to ask you for a key."
    if unit and re.search(r"^User=root|^(?!.*User=)", unit, re.MULTILINE):
        yield "the object store ran as root; it runs as minio now, and its data folder belongs to that account."
    hba = (host.read(postgres.cluster_of(facts).hba) or b"").decode(errors="replace")
    if any(opens_everything(line) for line in hba.splitlines()):
        kept = f"; what it gave to {', '.join(others)} is kept" if others else ""
        yield f"PostgreSQL let every account in from every address; that line of pg_hba.conf is a comment now{kept}."
    if others:
        yield f"PostgreSQL holds {', '.join(others)} too: it listens on the network as before, and its settings stay its owner's."
    elif config.postgres.mode == "local" and hba and not config.postgres.allowed_networks:
        yield "PostgreSQL is reached from this host alone now; [postgres] allowed_networks opens it to networks you name."
    yield from _hidden(host, config)
    if foreign:
        yield f"some experiments keep their artifacts in other buckets ({', '.join(foreign)}): they stay as they are, and clients need keys for them."
    if config.mlflow.auth.enabled:
        yield "MLflow asks for an account now: sudo mlflow-onprem client-env, and `user add` for everybody else."
