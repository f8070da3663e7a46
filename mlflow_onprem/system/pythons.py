"""Which Python MLflow's environment gets: the version that is configured, or with "auto" the best one to be had on this host."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from mlflow_onprem.core.errors import CommandFailed
from mlflow_onprem.core.host import Host
from mlflow_onprem.system import bundle, download, fetching
from mlflow_onprem.system.apt import candidate

#: What the locks are made for, and which of them "auto" takes where it can be had.
KNOWN = ("3.10", "3.11", "3.12", "3.13")
PREFERRED = "3.11"
CURRENT = "/opt/mlflow-onprem/environments/current"
#: Where uv puts a Python that it fetched.
FETCHED = "/opt/mlflow-onprem/python"
#: Where uv looks for standalone ones, in that order.
STANDALONE = (
    "https://releases.astral.sh/github/python-build-standalone/releases/download",
    "https://github.com/astral-sh/python-build-standalone/releases/download",
)


@dataclass(frozen=True)
class Choice:
    """`source` is a path, "apt" or "uv" where the interpreter is still to come; `why` one line where "auto" did not find 3.11."""

    version: str
    source: str
    why: str = ""


def choose(host: Host, wanted: str, unreachable: Callable[[Host, str], str] | None = None) -> Choice:
    """The Python for this configuration on this host. Reads, and asks the network only where nothing else decides; `unreachable` is for tests."""
    if wanted != "auto":
        return Choice(wanted, on_host(host, wanted) or ("apt" if in_packages(host, wanted) else "uv"))
    if (kept := in_use(host)) is not None:
        return kept
    if (path := on_host(host, PREFERRED)) is not None:
        return Choice(PREFERRED, path)
    if in_packages(host, PREFERRED):
        return Choice(PREFERRED, "apt")
    own = _own(host)
    reason = "this host is installed from a bundle" if (packed := _in_bundle(host)) else (unreachable or not_fetched)(host, PREFERRED)
    if not reason or (own is None and packed is None):
        return Choice(PREFERRED, "uv")
    version, source = own or (packed or PREFERRED, "uv")
    why = f"Python {version} of this host is used: 3.11 is neither on it nor in its packages, and a standalone one cannot be fetched ({reason})"
    return Choice(version, source, why)


def in_use(host: Host) -> Choice | None:
    """The one that the environment in use was made with, while it is still there: another default makes no environment anew."""
    pairs = (line.partition("=") for line in (host.read(f"{CURRENT}/pyvenv.cfg") or b"").decode(errors="replace").splitlines())
    settings = {name.strip(): value.strip() for name, _, value in pairs}
    version = ".".join((settings.get("version_info") or settings.get("version", "")).split(".")[:2])
    if version not in KNOWN:
        return None
    if settings.get("home", "").startswith(FETCHED) and host.stat(f"{settings['home']}/python{version}") is not None:
        return Choice(version, "uv")
    path = on_host(host, version)
    return None if path is None else Choice(version, path)


def on_host(host: Host, version: str) -> str | None:
    """The distribution's interpreter of that version, where it is installed and final: Ubuntu 22.04's universe has a release candidate of 3.11."""
    path = f"/usr/bin/python{version}"
    if host.stat(path) is None:
        return None
    try:
        return path if re.fullmatch(r"Python \d+\.\d+\.\d+\+?", host.run([path, "--version"]).out.strip()) else None
    except CommandFailed:
        return None


def in_packages(host: Host, version: str) -> bool:
    """Whether apt has that version, and not as a release candidate."""
    offered = candidate(host, f"python{version}")
    return offered is not None and "rc" not in offered


def not_fetched(host: Host, version: str) -> str:
    """Why uv could not fetch a standalone Python here; empty where it could. Asks for the address alone."""
    from uv import find_uv_bin

    argv = [find_uv_bin(), "python", "list", version, "--only-downloads", "--show-urls"]
    try:
        listed = host.run(argv, env={**fetching.variables(host), "UV_PYTHON_INSTALL_DIR": FETCHED}).out
    except CommandFailed as failed:
        return failed.message
    found = re.search(r"^cpython-\S+\s+https?://\S+?/releases/download/(\S+)", listed, re.MULTILINE)
    if found is None:
        return "uv knows none for this machine"
    places = (os.environ["UV_PYTHON_INSTALL_MIRROR"],) if os.environ.get("UV_PYTHON_INSTALL_MIRROR") else STANDALONE
    reasons = [reason for place in places if (reason := download.not_reached(f"{place.rstrip('/')}/{found[1]}"))]
    return reasons[-1] if len(reasons) == len(places) else ""


def _own(host: Host) -> tuple[str, str] | None:
    """The host's own, the one that `python3` is first."""
    first = (host.readlink("/usr/bin/python3") or "").rpartition("/")[2].removeprefix("python")
    for version in (first, *reversed(KNOWN)):
        if version in KNOWN and (path := on_host(host, version)) is not None:
            return version, path
    return next(((version, "apt") for version in reversed(KNOWN) if in_packages(host, version)), None)


def _in_bundle(host: Host) -> str | None:
    text = host.read(f"{bundle.FOLDER}/manifest.json")
    return None if text is None else str(json.loads(text).get("python", ""))
