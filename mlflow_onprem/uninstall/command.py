"""`uninstall`: the lists of `install` backwards. What holds data stays, unless it is told to purge."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_onprem.clients.sql import SqlError
from mlflow_onprem.core import engine
from mlflow_onprem.core.engine import Report, Stack, Watch
from mlflow_onprem.core.errors import CommandFailed
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Phase, Resource, compare
from mlflow_onprem.resources.accounts import SystemGroup, SystemUser
from mlflow_onprem.resources.bucket import AccessKey, Bucket
from mlflow_onprem.resources.cluster import AdministratorAccess, PostgresCluster
from mlflow_onprem.resources.database import Database, Role, SettingsInForce
from mlflow_onprem.resources.db_role import DatabaseRole
from mlflow_onprem.resources.files import Directory, File
from mlflow_onprem.resources.overrides import Overrides
from mlflow_onprem.resources.packages import AptPackages, brought
from mlflow_onprem.resources.schema import Schema
from mlflow_onprem.resources.services import Service
from mlflow_onprem.settings import db_roles, topology
from mlflow_onprem.settings.facts import ACCOUNTS
from mlflow_onprem.settings.topology import ExternalPostgres, LocalPostgres, LocalStore
from mlflow_onprem.stack import postgres
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system import clusters
from mlflow_onprem.system.clusters import Cluster
from mlflow_onprem.system.local_host import LocalHost

#: What services and we ourselves make beside the resources.
LEFTOVERS = ("/opt/mlflow-onprem/python",)
#: Only with a purge: the store's home, and what a later install need not fetch or build again.
PURGED = ("/var/lib/minio", "/var/cache/mlflow-onprem")
REMOVER = "/opt/mlflow-onprem/cli/remove"


@dataclass(frozen=True)
class Stock:
    """What is stored here; None where it cannot be counted now. `size` is in bytes."""

    runs: int | None
    models: int | None
    size: int | None


@dataclass(frozen=True)
class Postgres:
    """What there is beside ours: `others` are databases in our cluster, `beside` clusters of the same version.

    `shared`: the cluster is not ours to drop; `alone`: there is no other cluster of any version.
    """

    others: tuple[str, ...]
    beside: tuple[str, ...]
    shared: bool
    packages_stay: bool
    alone: bool


@dataclass(frozen=True)
class Removal:
    """What uninstall is about to do: resources that go, what stays and why, and with a purge what is lost for good."""

    hostname: str
    stack: Stack
    goes: tuple[str, ...]
    stays: tuple[str, ...]
    lost: Stock | None


def look(host: LocalHost, assembly: Assembly, *, purge: bool) -> Removal:
    """What would go and what would stay; changes nothing."""
    packages_ours = set(postgres.packages(assembly.config, assembly.facts)) <= brought(host)
    found = postgres_of(assembly, _other_databases(assembly), _other_clusters(host, assembly), packages_ours=packages_ours)
    stack = _retired(assembly, found, purge=purge)
    goes = tuple(each.name for each in stack if compare(each, each.observe(host)) is not None)
    lost = _stock(host, assembly) if purge else None
    return Removal(socket.gethostname(), stack, goes, tuple(_stays(host, assembly, found, purge=purge)), lost)


def agreed(answer: str, removal: Removal, *, purge: bool) -> bool:
    """Whether an answer is a yes; with a purge only this host's name is."""
    return answer == removal.hostname if purge else answer.lower() in ("y", "yes")


def remove(host: LocalHost, assembly: Assembly, removal: Removal, watch: Watch, stop: threading.Event) -> Report:
    """Do it. Raises ResourceFailed, Interrupted; running again resumes from there."""
    # Our own session runs as PostgreSQL's account, which could not be removed meanwhile; who needs a session makes one again.
    assembly.sql.close()
    report = engine.converge(host, removal.stack, watch, stop)
    host.run(["systemctl", "daemon-reload"])
    if isinstance(topology.postgres(assembly.config), LocalPostgres) and any(each.startswith("file:/etc/postgresql/") for each in removal.goes):
        unit = postgres.unit(assembly.facts)
        if host.run(["systemctl", "is-active", unit], ok=range(256)).out.strip() == "active":
            host.run(["systemctl", "reload", unit])
    return report


def postgres_of(assembly: Assembly, others: tuple[str, ...], neighbours: tuple[Cluster, ...], *, packages_ours: bool) -> Postgres:
    """What of PostgreSQL is not ours to remove."""
    facts = assembly.facts
    shared = bool(others) or facts.postgres_shared or not (packages_ours or facts.postgres_made)
    # Purging the packages of a version takes every cluster of that version with it.
    beside = tuple(each.label for each in neighbours if each.version == facts.postgres_version)
    return Postgres(others, beside, shared, packages_stay=shared or bool(beside) or not packages_ours, alone=not neighbours)


def _retired(assembly: Assembly, found: Postgres, *, purge: bool) -> Stack:
    shared, packages_stay = found.shared, found.packages_stay
    kept = list(_kept_apart(assembly, purge=purge, shared=shared, alone=found.alone))
    going = [_without_kept_packages(assembly, each, purge=purge, stay=packages_stay) for each in assembly.stack if each not in kept]
    extra: list[Resource] = [Directory(path, None) for path in (*LEFTOVERS, *(PURGED if purge else ()))]
    extra += [File(db_roles.PATH, None)] if purge else []
    if purge:
        parents = {folder.rpartition("/")[0] for folder in topology.store(assembly.config.minio).folders}
        extra += [Directory(parent, None, shared=True) for parent in sorted(parents) if parent.count("/") > 1]
    if purge and isinstance(topology.postgres(assembly.config), LocalPostgres) and not packages_stay:
        extra += [
            each
            for each in (SystemUser("postgres", None), SystemGroup("ssl-cert", None))
            if each.name.partition(":")[2] not in assembly.facts.users_before
        ]
    extra += [SystemUser(name, None) for name in _former_accounts(assembly) if purge or name != ACCOUNTS[0]]
    stack = engine.retire([each for each in going if each is not None], with_data=purge)
    # What was prepared first goes last: the shared folders are empty by then, or not ours alone; the notes on what was here before us go
    # when nothing needs them any more.
    return Stack(first=(*stack.only(set(Phase) - {Phase.PREPARE}), *extra, *stack.only([Phase.PREPARE])))


def _former_accounts(assembly: Assembly) -> tuple[str, ...]:
    """Accounts of ours that the configuration named before it named others."""
    config, facts = assembly.config, assembly.facts
    return tuple(name for name in ACCOUNTS if name not in (config.minio.user, config.mlflow.user, *facts.users_before))


def _kept_apart(assembly: Assembly, *, purge: bool, shared: bool, alone: bool) -> Iterator[Resource]:
    """Resources that are not retired one by one: they go with what holds them, or they are not ours to remove."""
    config = assembly.config
    local_store, sql = isinstance(topology.store(config.minio), LocalStore), topology.postgres(config)
    local_sql = isinstance(sql, LocalPostgres)
    # In a store of ours, bucket and key live in the data folder; in a cluster of ours, databases and role in the cluster.
    kinds: tuple[type, ...] = (Schema, AdministratorAccess, Overrides, SettingsInForce)
    kinds += (AccessKey, Bucket) if local_store else ()
    kinds += (Database, Role, DatabaseRole) if local_sql and not shared else ()
    kinds += (PostgresCluster,) if shared or not assembly.facts.postgres_made else ()
    for each in assembly.stack:
        provided = isinstance(each, Database) and not local_sql and each.database == sql.database
        # Debian's postgresql.service stops all clusters: with others beside ours it is left alone, and ours ends with its data.
        others_server = isinstance(each, Service) and local_sql and (shared or not alone) and each.unit == postgres.unit(assembly.facts)
        # Without the account, its number could be given to another one, which would then own the objects.
        needed = isinstance(each, SystemUser) and (
            each.user in assembly.facts.users_before or (each.user == assembly.config.minio.user and not purge)
        )
        if isinstance(each, kinds) or provided or others_server or needed:
            yield each


def _without_kept_packages(assembly: Assembly, each: Resource, *, purge: bool, stay: bool) -> Resource | None:
    """PostgreSQL's packages stay as long as a database does."""
    if not isinstance(each, AptPackages) or (purge and not stay):
        return each
    rest = tuple(name for name in each.packages if name not in postgres.packages(assembly.config, assembly.facts))
    return dataclasses.replace(each, packages=rest) if rest else None


def _stays(host: Host, assembly: Assembly, found: Postgres, *, purge: bool) -> Iterator[str]:
    config, facts = assembly.config, assembly.facts
    objects, sql = topology.store(config.minio), topology.postgres(config)
    local_sql = isinstance(sql, LocalPostgres)
    if host.stat("/etc/mlflow-onprem/config.toml") is not None:
        yield "/etc/mlflow-onprem/config.toml, which is yours"
    if host.listdir("/var/backups/mlflow-onprem"):
        yield "/var/backups/mlflow-onprem, your backups"
    if host.stat(REMOVER) is not None:
        yield f"the command mlflow-onprem itself: sudo {REMOVER} takes it off"
    if not purge:
        yield "/etc/mlflow-onprem/credentials.json, every password of the stack"
        store = (
            f"{' '.join(objects.folders)} with every artifact, and its account {config.minio.user}"
            if isinstance(objects, LocalStore)
            else "the bucket in the external store"
        )
        yield store
        names = " and ".join(sql.databases)
        yield f"the databases {names} in PostgreSQL {facts.postgres_version}" if local_sql else "the databases on the external server"
    elif not local_sql:
        yield f"the database {sql.database} on the external server: its owner gave it, its owner has to drop it"
    elif found.others:
        yield f"PostgreSQL {facts.postgres_version}: it holds other databases too ({', '.join(found.others)})"
    elif found.shared:
        yield f"PostgreSQL {facts.postgres_version}: it was here before us"
    elif found.packages_stay:
        why = f"it has other clusters too ({', '.join(found.beside)})" if found.beside else "its packages were here before us"
        yield f"PostgreSQL {facts.postgres_version}: {why}; of its clusters only {postgres.cluster_of(facts).label} goes"


def _other_databases(assembly: Assembly) -> tuple[str, ...]:
    """Databases beside ours in the cluster; none where it cannot be asked because there is none."""
    if isinstance(topology.postgres(assembly.config), ExternalPostgres):
        return ()
    try:
        rows = assembly.sql.query("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1")
    except SqlError as failed:
        if not failed.unreachable:
            raise
        return ()
    return tuple(name for (name,) in rows if name not in topology.postgres(assembly.config).databases)


def _other_clusters(host: Host, assembly: Assembly) -> tuple[Cluster, ...]:
    """Clusters beside ours, of any version."""
    if isinstance(topology.postgres(assembly.config), ExternalPostgres):
        return ()
    ours = postgres.cluster_of(assembly.facts)
    return tuple(each for each in clusters.every(host) if each.label != ours.label)


def _stock(host: Host, assembly: Assembly) -> Stock:
    config = assembly.config
    database, store = topology.postgres(config).database, topology.store(config.minio)
    size = None
    if isinstance(store, LocalStore):
        folders = [folder for folder in store.folders if host.stat(folder) is not None]
        # What the store keeps for itself (and throws away later) is no artifact.
        try:
            size = sum(int(host.run(["du", "-sb", "--exclude=.minio.sys", folder], timeout=600).out.split()[0]) for folder in folders)
        except CommandFailed:
            size = None
    return Stock(_count(assembly, database, "runs"), _count(assembly, database, "registered_models"), size)


def _count(assembly: Assembly, database: str, table: str) -> int | None:
    try:
        return int(assembly.sql.query(database, "SELECT count(*) FROM {table}", {"table": table})[0][0])
    except SqlError:
        return None
