"""A stack that was built by hand: what is found of it, and the resources that bring it in."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mlflow_onprem.clients.sql import Sql, SqlError
from mlflow_onprem.core.errors import NotVisible, Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Resource
from mlflow_onprem.resources import old_starts
from mlflow_onprem.resources.adoption import (  # fmt: skip
    NOTE,
    Adopted,
    ClosedLines,
    Copy,
    CopyState,
    HandStarted,
    OwnedTree,
    TreeState,
    stamp,
    to_stop,
)
from mlflow_onprem.resources.artifact_addresses import PROXIED, ProxiedRoots
from mlflow_onprem.resources.artifact_folders import ArtifactFolder, ArtifactFolderState
from mlflow_onprem.resources.old_starts import OldUnits, StartLines
from mlflow_onprem.resources.transplant import Transplant, TransplantState, locations
from mlflow_onprem.settings import credentials, topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.settings.topology import ExternalPostgres, LocalPostgres, LocalStore
from mlflow_onprem.stack import adoption_checks, adoption_words, minio, mlflow, postgres
from mlflow_onprem.stack.adopting import Adopting
from mlflow_onprem.stack.adoption_checks import Folder, Sources
from mlflow_onprem.stack.connections import Connections
from mlflow_onprem.system.hand_built import Ours, Server, called, running

BACKUPS = "/var/backups/mlflow-onprem"
OURS = "Written by mlflow-onprem"


@dataclass(frozen=True)
class Adoption:
    """What was found. `others` are databases beside MLflow's; `warnings` is what a person must hear."""

    folder: str
    ports: tuple[int, ...]
    tables: bool
    others: tuple[str, ...]
    warnings: tuple[str, ...]
    ours: Ours
    files: tuple[str, ...] = ()
    server: Server | None = None
    sources: Sources = field(default_factory=Sources)
    folders: tuple[Folder, ...] = ()


def look(host: Host, config: Config, facts: Facts, sql: Sql) -> Adoption | None:
    """What somebody built here by hand, None on a plain host and on one that is ours. Raises Refused where its artifacts are in another bucket."""
    if not host.is_root:
        return None
    try:
        note = json.loads(host.read(NOTE) or b"{}")
    except (ValueError, NotVisible):
        note = {}
    if note.get("done") or (not note and host.read(credentials.PATH) is not None):
        return None
    ours = _ours(host, config)
    found = _server(host, ours)
    server = Server(**note["server"]) if note.get("server") else found
    ports = tuple(port for port, program in _ports(config) if to_stop(host, port, program))
    buckets = _buckets(config, sql)
    unit = (host.read(minio.UNIT) or b"").decode(errors="replace")
    by_hand = bool(unit) and OURS not in unit and isinstance(topology.store(config.minio), LocalStore)
    files = old_starts.files_of(host, ours)
    if not (note or ports or buckets is not None or by_hand or server or files):
        return None
    sources = Sources(**{**note["sources"], "names": tuple(note["sources"]["names"])}) if note.get("sources") else Sources()
    places = _locations(config, sql)
    if server is not None and not note:
        sources = adoption_checks.check_server(host, server, config, tables=buckets is not None)
        places = locations(host, sources.tracking) if sources.tracking else places
        adoption_checks.check_artifacts(host, server, config, places)
    adoption_checks.check_store(host, config)
    foreign = sorted((buckets or set()) - {config.minio.bucket})
    if foreign and config.minio.bucket not in (buckets or set()):
        raise Refused(
            f"the runs on this host keep their artifacts in the bucket {foreign[0]}, and [minio] bucket is {config.minio.bucket}",
            f'set bucket = "{foreign[0]}" in [minio] of /etc/mlflow-onprem/config.toml, then run this again',
        )
    others = _others(config, sql)
    known = [Folder(each["path"], tuple(each["spellings"]), each["prefix"]) for each in note.get("places", [])]
    folders = tuple(known) if note else tuple(each for each in adoption_checks.folders(server, places) if host.stat(each.path) is not None)
    # What was found at the first look: half-way through, some of it is fixed already.
    news = (
        *adoption_words.starts(host, ours, sources, folders),
        *adoption_words.warnings(host, config, facts, unit if by_hand else "", foreign, others),
    )
    warnings = tuple(note.get("warnings") or news)
    folder = note.get("folder") or f"{BACKUPS}/adoption-{stamp()}"
    return Adoption(folder, ports, buckets is not None, others, warnings, ours, files, server, sources, folders)


def told(host: Host, adoption: Adoption) -> tuple[str, ...]:
    """What a person must hear after it, with what only came out on the way."""
    note = json.loads(host.read(NOTE) or b"{}")
    return tuple(note.get("warnings") or adoption.warnings)


def facts_of(adoption: Adoption, facts: Facts) -> Facts:
    """A cluster that holds nothing but MLflow is this stack's from now on: its settings and its access rules."""
    return facts if adoption.others else dataclasses.replace(facts, postgres_shared=False)


def adopting(adoption: Adoption, config: Config, facts: Facts, to: Connections, uv: str) -> Adopting:
    """The adoption's own resources, by where in the lists they have to happen."""
    cluster = postgres.cluster_of(facts)
    store, local_sql = topology.store(config.minio), isinstance(topology.postgres(config), LocalPostgres)
    files = (minio.UNIT, adoption_words.DEFAULTS, cluster.conf, cluster.hba, cluster.ident, *adoption.files)
    databases = (config.postgres.database,) if adoption.tables and local_sql else ()
    kept = CopyState("a dump of the database and every file that is replaced" if databases else "every file that is replaced")
    hand = [HandStarted(port, program, adoption.ours) for port, program in _ports(config)]
    found = json.dumps({"server": adoption.server and adoption.server.values(), **_kept(adoption)})
    copy = Copy(adoption.folder, databases, config.postgres.port, tuple(dict.fromkeys(files)), adoption.warnings, kept, found)
    user, group = config.minio.user, facts.group_of(config.minio.user)
    trees = [OwnedTree(folder, user, TreeState(user), group=group) for folder in store.folders if folder]
    roots = ProxiedRoots(to.sql, config.postgres.database, _roots(adoption, config))
    return Adopting(
        before=(copy, OldUnits(to.systemd, adoption.folder, adoption.ours), StartLines(adoption.folder, adoption.ours), *hand),
        store=tuple(trees),
        access=(ClosedLines(cluster.hba, adoption.others),) if local_sql and facts.postgres_version else (),
        tables=(*_transplants(adoption, config, facts, uv), *((*_folders(adoption, config, to), roots) if local_sql else ())),
        done=(Adopted(),),
    )


def _folders(adoption: Adoption, config: Config, to: Connections) -> list[Resource]:
    """Folders of artifacts on the disk, each for the bucket."""
    database, bucket = config.postgres.database, config.minio.bucket
    return [
        ArtifactFolder(to.store, to.sql, database, bucket, each.path, each.spellings, each.prefix, ArtifactFolderState(bucket))
        for each in adoption.folders
    ]


def _roots(adoption: Adoption, config: Config) -> tuple[tuple[str, str], ...]:
    """How addresses of artifacts begin in the old server's tables, and in ours."""
    direct = config.mlflow.artifacts == "direct"
    ours = f"s3://{config.minio.bucket}/" if direct else "mlflow-artifacts:/"
    bucket = () if direct else ((f"s3://{config.minio.bucket}", ours),)
    disk = ((spelling, f"{ours}{each.prefix}") for each in adoption.folders for spelling in each.spellings if spelling != PROXIED)
    # Objects that the old server kept below a prefix of the bucket are found there by ours too.
    prefix = adoption_checks.prefix_in_bucket(adoption.server)
    return (*bucket, *disk, *(((PROXIED, f"mlflow-artifacts:/{prefix}"),) if prefix else ()))


def _transplants(adoption: Adoption, config: Config, facts: Facts, uv: str) -> list[Resource]:
    sources = {"tracking": adoption.sources.tracking, "accounts": adoption.sources.accounts}
    python, settings = f"{mlflow.environment(config, facts, uv).directory}/bin/python", mlflow.service_settings(config, facts)
    who = (config.mlflow.user, facts.group_of(config.mlflow.user))
    return [Transplant(what, path, python, settings, TransplantState(path), *who) for what, path in sources.items() if path]


def administrator(adoption: Adoption, name: str) -> str:
    """What our administrator is called: beside accounts that come along, one of which may have that name, another one."""
    return name if name not in adoption.sources.names else next(each for each in _names(name) if each not in adoption.sources.names)


def _names(name: str) -> Iterator[str]:
    yield f"onprem-{name}"
    yield from (f"onprem-{name}-{number}" for number in itertools.count(2))


def _kept(adoption: Adoption) -> dict[str, Any]:
    """What the note keeps for a run that goes on: half-way through, the tables may tell something else, or nothing."""
    return {"sources": dataclasses.asdict(adoption.sources), "places": [dataclasses.asdict(each) for each in adoption.folders]}


def _ports(config: Config) -> tuple[tuple[int, str], ...]:
    """Each port with the program that somebody would have started there."""
    return ((config.mlflow.port, "mlflow"), *((port, "minio") for _, port in topology.store(config.minio).ports))


def _ours(host: Host, config: Config) -> Ours:
    sql = topology.postgres(config)
    stores = (each for port, program in _ports(config) if program == "minio" for each in to_stop(host, port, program))
    objects = tuple(sorted({each.unit for each in stores if each.has_its_own_unit and not each.manager}))
    return Ours(config.mlflow.port, sql.database if isinstance(sql, LocalPostgres) else "", tuple(topology.units(config, None)), objects)


def _server(host: Host, ours: Ours) -> Server | None:
    """How the MLflow that has to give way was called. Raises Refused where something would start it again."""
    found = running(host, ours)
    for each in found:
        if each.keeper:
            raise Refused(
                f"MLflow runs here in {each.keeper} (pid {each.pid}), which starts it again whenever it ends",
                "stop it there for good (`docker update --restart=no` and `docker stop`, `supervisorctl stop` and its line in /etc/supervisor), "
                "then run this again; or give ours another port and database: [mlflow] port, [postgres] database",
            )
    return called(host, found) if found else old_starts.written_server(host, ours)


def _buckets(config: Config, sql: Sql) -> set[str] | None:
    """Buckets that the tables of a hand-built MLflow name, None where there are no such tables."""
    if isinstance(topology.postgres(config), ExternalPostgres):
        return None
    statement = "SELECT DISTINCT split_part(artifact_location, '/', 3) FROM experiments WHERE artifact_location LIKE 's3://%'"
    try:
        return {str(name) for (name,) in sql.query(config.postgres.database, statement)}
    except SqlError:
        return None


def _locations(config: Config, sql: Sql) -> list[str]:
    """Where experiments of a hand-built MLflow in our database keep their artifacts."""
    if isinstance(topology.postgres(config), ExternalPostgres):
        return []
    try:
        rows = sql.query(config.postgres.database, "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location IS NOT NULL")
    except SqlError:
        return []
    return [str(location) for (location,) in rows]


def _others(config: Config, sql: Sql) -> tuple[str, ...]:
    if isinstance(topology.postgres(config), ExternalPostgres):
        return ()
    statement = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1"
    try:
        rows = sql.query("postgres", statement)
    except SqlError:
        return ()
    return tuple(str(name) for (name,) in rows if name not in topology.postgres(config).databases)
