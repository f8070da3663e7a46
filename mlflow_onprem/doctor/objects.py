"""Files that no listing shows, because a file has the name of their folder: which run, which path, what hides them, what to do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from mlflow_onprem.backup import context
from mlflow_onprem.clients import store_disk
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.finding import Finding, error, ok, warning
from mlflow_onprem.settings.addresses import tracking_uri
from mlflow_onprem.settings.config import Config
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system.local_host import LocalHost

CHECK = "hidden files"
#: Seconds for looking at the names of all objects; a backup looks at all of them, however long it takes.
PATIENCE = 60.0
SHOWN = 10
RUN = re.compile(r"(?P<experiment>[^/]+)/(?P<run>[0-9a-f]{32})/artifacts/(?P<path>.+)")
WHY = (
    "MinIO keeps a file beside a folder of its name and lists the file alone: each is still read by its own name, and is in backups, "
    "but not in the list of a run's artifacts nor in a download of the whole run"
)


def look(host: LocalHost, assembly: Assembly) -> Iterator[Finding]:
    """Compare names with each other: from the store's own disk, or, for a store elsewhere, as far as it and the database know them."""
    config = assembly.config
    try:
        bucket = context.bucket(host, assembly)
        if bucket.disk is not None:
            yield judge(config, tracking_uri(host, config, assembly.facts), store_disk.keys(bucket.disk))
        elif bucket.hides():
            yield judge(config, tracking_uri(host, config, assembly.facts), (each.key for each in bucket.list()), partly=True)
        else:
            yield ok(CHECK, "the object store lists a file and a folder of its name, both")
    except OSError as failed:
        yield warning(
            CHECK, f"{failed.filename} could not be read: {failed.strerror}", "files may be hidden without anybody knowing", "run it with sudo"
        )
    except OnPremError as failed:
        yield warning(CHECK, failed.message, "files may be hidden without anybody knowing", failed.hint)


def judge(config: Config, url: str, keys: Iterable[str], *, partly: bool = False, patience: float = PATIENCE) -> Finding:
    """One finding for all of them. `partly`: the keys are not all, only what an untrustworthy listing and the database know."""
    until = time.monotonic() + patience
    seen = 0

    def counted() -> Iterator[str]:
        nonlocal seen
        for key in keys:
            if time.monotonic() > until:
                return
            seen += 1
            yield key

    found = list(store_disk.overlaps(counted()))
    late = f" (looked at the first {seen} objects, for {patience:.0f} s)" if time.monotonic() > until else ""
    if not found:
        rest = "; what its listing hides and the database does not name cannot be known" if partly else ""
        return ok(CHECK, f"no file has the name of a folder{late}{rest}{_open_ways(config)}")
    lines = "; ".join(f"{_described(key)}, hidden by the file {_path(hider)}" for hider, key in found[:SHOWN])
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return error(CHECK, f"{len(found)} files are in no listing{late}: {lines}{more}", WHY, _way_out(url, found[0][0]))


def _open_ways(config: Config) -> str:
    if config.mlflow.artifacts == "proxied":
        return ""
    return f'. Clients write to the store themselves (artifacts = "{config.mlflow.artifacts}"), and the store does not stop them from making one'


def _way_out(url: str, hider: str) -> str:
    """Commands that give the hiding file another name."""
    matched = RUN.fullmatch(hider)
    delete = f"curl -u NAME -X DELETE '{url}/api/2.0/mlflow-artifacts/artifacts/{quote(hider)}'"
    if matched is None:
        return f"if nobody needs the file {hider} itself: {delete}; then run doctor again. The files behind it are listed again, and none is lost"
    run, path = matched["run"], matched["path"]
    name = path.rpartition("/")[2]
    return (
        f"give the file {path} another name, on a client (`mlflow-onprem client-env`): mlflow artifacts download -r {run} -a '{path}' -d aside; "
        f"mlflow artifacts log-artifact -r {run} -l 'aside/{name}' -a '{path}.file'; {delete}. "
        "Then the files behind it are listed again. The same for each of the others"
    )


def _described(key: str) -> str:
    matched = RUN.fullmatch(key)
    return f"run {matched['run']} of experiment {matched['experiment']}: {matched['path']}" if matched else key


def _path(key: str) -> str:
    matched = RUN.fullmatch(key)
    return matched["path"] if matched else key
