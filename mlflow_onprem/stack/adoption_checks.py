"""What of a hand-built stack cannot be taken over as it is, said before anything is touched."""

from __future__ import annotations

import configparser
import json
import posixpath
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlflow_onprem.core.errors import Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.resources.adoption import to_stop
from mlflow_onprem.resources.artifact_addresses import PROXIED
from mlflow_onprem.resources.transplant import denials
from mlflow_onprem.resources.transplant import tables as read_tables
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.topology import ExternalPostgres, ExternalStore, LocalPostgres
from mlflow_onprem.stack.mlflow_release import schema_of
from mlflow_onprem.system.hand_built import Server, without_password

CONFIG = "/etc/mlflow-onprem/config.toml"
PAGE = "docs/operations-adoption.md"
HIDDEN = "NO_PERMISSIONS"
LOOPBACK = (None, "localhost", "127.0.0.1", "::1")
KINDS = {"mysql": ("MySQL", "MySQL"), "mariadb": ("MySQL", "MySQL"), "mssql": ("SQL Server", "MySQL")}
#: Options of `minio server` that are followed by a value.
VALUES = ("--address", "--console-address", "--certs-dir", "-S", "--config", "--ftp", "--sftp")


@dataclass(frozen=True)
class Sources:
    """SQLite files whose rows come into our databases: of runs and of accounts (empty: none), and the names of those accounts."""

    tracking: str = ""
    accounts: str = ""
    names: tuple[str, ...] = ()


def check_server(host: Host, server: Server, config: Config, *, tables: bool) -> Sources:
    """Where its runs and accounts come from. `tables`: our database holds some of MLflow's. Raises Refused where it cannot be taken over as it is."""
    scheme = urlsplit(server.backend).scheme.partition("+")[0]
    runs = ""
    if scheme in ("postgres", "postgresql"):
        if isinstance(topology.postgres(config), LocalPostgres):
            _check_postgres(server.backend, config)
    elif scheme == "sqlite" or (not server.backend and host.stat(f"{server.folder}/mlflow.db") is not None):
        runs = _sqlite(host, server.backend or "sqlite:///mlflow.db", server.folder)
        _check_sqlite(host, runs, config, tables=tables)
    else:
        kind, chapter = KINDS.get(scheme, ("files", "Files"))
        where = f"{server.backend or 'mlruns'}, started in {server.folder or 'a folder that is not known'}"
        raise Refused(
            f"the MLflow on this host keeps its runs in {kind} ({where}), and this stack uses PostgreSQL",
            f'convert them first, or leave that one alone and give ours another port ([mlflow] port in {CONFIG}); both ways: {PAGE}, "{chapter}"',
        )
    accounts = _accounts(host, server, config) if server.accounts and config.mlflow.auth.enabled else ""
    return Sources(runs, accounts, read_tables(host, accounts)[1] if accounts else ())


@dataclass(frozen=True)
class Folder:
    """A folder of artifacts on this host, how addresses name it, and the prefix that its files get in the bucket."""

    path: str
    spellings: tuple[str, ...]
    prefix: str


def folders(server: Server | None, locations: Iterable[str] = ()) -> tuple[Folder, ...]:
    """Where on the disk an MLflow kept artifacts: what it served, what it had clients write to, and `locations` of single experiments elsewhere."""
    if server is None:
        return ()
    served = server.destination or "./mlartifacts"
    root = server.root or "./mlruns"
    found = []
    if (path := _on_disk(served, server.folder)) is not None:
        found.append(Folder(path, (PROXIED,), ""))
    if (path := _on_disk(root, server.folder)) is not None and path not in [each.path for each in found]:
        spellings = (root.rstrip("/"), path, f"file://{path}", f"file:{path}", root.removeprefix("./").rstrip("/"))
        # Beside what the server itself served it gets a place of its own: both may hold an experiment 0.
        found.append(Folder(path, tuple(dict.fromkeys(spellings)), "local/"))
    for location in sorted(set(locations)):
        path = _on_disk(location, server.folder)
        if path is not None and not any(path == each.path or path.startswith(f"{each.path}/") for each in found if each.spellings != (PROXIED,)):
            found.append(Folder(path, tuple(dict.fromkeys((location.rstrip("/"), path, f"file://{path}", f"file:{path}"))), f"local{path}/"))
    return tuple(found)


def prefix_in_bucket(server: Server | None) -> str:
    """The prefix of the bucket that an MLflow served artifacts from, with a slash at its end; empty where it had none."""
    parts = urlsplit(server.destination) if server is not None else urlsplit("")
    prefix = parts.path.strip("/") if parts.scheme == "s3" else ""
    return f"{prefix}/" if prefix else ""


def _on_disk(uri: str, folder: str) -> str | None:
    scheme = urlsplit(uri).scheme
    if scheme not in ("", "file"):
        return None
    path = urlsplit(uri).path if scheme else uri
    return posixpath.normpath(path if path.startswith("/") else f"{folder}/{path}")


def check_artifacts(host: Host, server: Server, config: Config, locations: Iterable[str] = ()) -> None:
    """Raises Refused where what it served is in another bucket than ours, or the disk has no room for what is in its folders."""
    parts = urlsplit(server.destination)
    if parts.scheme == "s3" and parts.netloc != config.minio.bucket:
        raise Refused(
            f"the MLflow on this host keeps its artifacts in the bucket {parts.netloc}, and [minio] bucket is {config.minio.bucket}",
            f'set bucket = "{parts.netloc}" in [minio] of {CONFIG}, then run this again',
        )
    if isinstance(topology.store(config.minio), ExternalStore):
        return
    place = config.minio.data_dir
    while not host.local(place).exists():
        place = posixpath.dirname(place)
    free = shutil.disk_usage(host.local(place)).free
    sizes = [(each.path, size(host, each.path)) for each in folders(server, locations) if host.stat(each.path) is not None]
    if sum(each for _, each in sizes) > free:
        told = ", ".join(f"{path} ({each / 2**30:.1f} GiB)" for path, each in sizes)
        raise Refused(
            f"the artifacts of the MLflow on this host are copied into the object store, and {place} has {free / 2**30:.1f} GiB free: {told}",
            f"mount a larger disk there, or name a folder on one: data_dir in [minio] of {CONFIG}",
        )


def size(host: Host, path: str) -> int:
    """Bytes below a folder."""
    return int(host.run(["du", "--summarize", "--bytes", path], ok=(0, 1), timeout=3600).out.partition("\t")[0] or 0)


def _sqlite(host: Host, uri: str, folder: str) -> str:
    """The file that an address of SQLAlchemy's names. Raises Refused where it is not there."""
    path = uri.partition(":///")[2].partition("?")[0]
    found = posixpath.normpath(path if path.startswith("/") else f"{folder}/{path}")
    if host.stat(found) is None:
        raise Refused(
            f"the MLflow on this host is started with {uri}, and there is no file {found}",
            "start it where its file is and run this again, or take out the unit or the crontab's line that starts it",
        )
    return found


def _check_sqlite(host: Host, path: str, config: Config, *, tables: bool) -> None:
    if isinstance(topology.postgres(config), ExternalPostgres):
        raise Refused(
            f"the MLflow on this host keeps its runs in {path}, and [postgres] names a server elsewhere: runs are brought into a local one only",
            f'leave out mode = "external" in [postgres] of {CONFIG}, or give ours another port ([mlflow] port)',
        )
    if tables:
        raise Refused(
            f"the MLflow on this host keeps its runs in {path}, and the database {config.postgres.database} holds tables of MLflow too: "
            "runs of both cannot become one",
            f"name an empty database ([postgres] database in {CONFIG}), or give ours another port ([mlflow] port)",
        )
    revision, _ = read_tables(host, path)
    _, steps = schema_of(config.mlflow.version, accounts=False)
    if steps and revision is not None and revision not in steps:
        raise Refused(
            f"{path} was written by an MLflow that is newer than {config.mlflow.version} (revision {revision})",
            f"set version in [mlflow] of {CONFIG} to the one that wrote it, or use a newer mlflow-onprem",
        )


def _accounts(host: Host, server: Server, config: Config) -> str:
    """The SQLite file of its accounts; empty where they are in the database that ours uses. Raises Refused."""
    uri, default = "sqlite:///basic_auth.db", "READ"
    if server.accounts != "default":
        path = server.accounts if server.accounts.startswith("/") else posixpath.join(server.folder, server.accounts)
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string((host.read(path) or b"").decode(errors="replace"))
            uri = parser["mlflow"]["database_uri"]
            default = parser["mlflow"].get("default_permission", default)
        except (configparser.Error, KeyError):
            raise Refused(
                f"the accounts of the MLflow on this host are named in {path}, and that file has no database_uri in [mlflow]",
                "put the file right that MLFLOW_AUTH_CONFIG_PATH names, then run this again",
            ) from None
    if uri.startswith("sqlite:"):
        found = _sqlite(host, uri, server.folder)
        _check_default(host, found, default, config)
        return found
    parts = urlsplit(uri)
    if parts.scheme.startswith("postgres") and parts.hostname in LOOPBACK and parts.path.strip("/") == config.mlflow.auth.database:
        return ""
    raise Refused(
        f"the MLflow on this host keeps its accounts in {without_password(uri)}, and [mlflow.auth] database is {config.mlflow.auth.database}",
        f"name that database there if it is one of this host's PostgreSQL, or take out the old accounts (`--app-name basic-auth`): {PAGE}",
    )


def _check_default(host: Host, path: str, default: str, config: Config) -> None:
    """Raises Refused where an account could read with us what the old server hid from it: in MLflow's roles a permission only adds."""
    ours = config.mlflow.auth.default_permission
    if ours == HIDDEN:
        return
    hidden = denials(host, path)
    if default == HIDDEN or hidden:
        why = f"forbids accounts what others own ({hidden} rules)" if hidden else "shows an account only what it was given (default_permission)"
        raise Refused(
            f"the MLflow on this host {why}, and with [mlflow.auth] default_permission = {ours} everybody could read it",
            f'set default_permission = "{HIDDEN}" in [mlflow.auth] of {CONFIG}, then run this again; '
            "`mlflow-onprem user grant` gives back what should be seen",
        )


def _check_postgres(backend: str, config: Config) -> None:
    """Raises Refused where its PostgreSQL is not the database of our configuration."""
    parts = urlsplit(backend)
    wanted = {"database": (parts.path.strip("/"), config.postgres.database), "port": (str(parts.port or 5432), str(config.postgres.port))}
    if parts.hostname not in LOOPBACK:
        raise Refused(
            f"the MLflow on this host keeps its runs in PostgreSQL on {parts.hostname} ({backend})",
            f'name that server: mode = "external", url and password_file in [postgres] of {CONFIG}; if {parts.hostname} is this host, '
            "start the old MLflow with localhost in its address first",
        )
    for key, (theirs, ours) in wanted.items():
        if theirs != ours:
            value = theirs if key == "port" else f'"{theirs}"'
            raise Refused(
                f"the MLflow on this host keeps its runs in {backend}, and [postgres] {key} is {ours}: they would not be found",
                f"set {key} = {value} in [postgres] of {CONFIG}, then run this again",
            )
    if parts.username and parts.username != config.postgres.user:
        raise Refused(
            f"the tables of the MLflow on this host belong to the role {parts.username}, and [postgres] user is {config.postgres.user}",
            f'set user = "{parts.username}" in [postgres] of {CONFIG}, then run this again',
        )


def check_store(host: Host, config: Config) -> None:
    """Raises Refused where the store on our port keeps its objects in another folder than ours will."""
    if isinstance(topology.store(config.minio), ExternalStore):
        return
    for each in to_stop(host, config.minio.port, "minio"):
        environment = dict(row.partition("=")[::2] for row in (host.read(f"/proc/{each.pid}/environ") or b"").decode(errors="replace").split("\0"))
        folders = store_folders(each.words) or environment.get("MINIO_VOLUMES", "").split()
        ours = list(config.minio.volumes) or [config.minio.data_dir]
        if folders and [folder.rstrip("/") for folder in folders] != [folder.rstrip("/") for folder in ours]:
            key = "data_dir" if len(folders) == 1 else "volumes"
            value = f'"{folders[0]}"' if len(folders) == 1 else json.dumps(folders)
            raise Refused(
                f"the object store on this host keeps its objects in {' '.join(folders)}, and [minio] {key} is {' '.join(ours)}",
                f"set {key} = {value} in [minio] of {CONFIG}, then run this again",
            )


def store_folders(words: tuple[str, ...]) -> list[str]:
    """The folders in a command line of `minio server`."""
    found, skip = [], False
    for word in words[words.index("server") + 1 :] if "server" in words else ():
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word in VALUES
        else:
            found.append(word)
    return found
