"""This program inside a sandbox: the checkout copied in, bootstrapped, installed, and each of these kept as a layer.

A layer is named by a digest of what went into it, so a second run finds it and a changed line of code makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.system import minio_source
from mlflow_onprem_sandbox import layers, machine
from mlflow_onprem_sandbox.hosts import Sandbox
from mlflow_onprem_sandbox.layers import Layer

#: What a server needs of a checkout; tests and documents change no server.
PARTS = ("bootstrap", "pyproject.toml", "config.example.toml", "units", "mlflow_onprem", "server", "sandbox")
#: What decides which packages the CLI's own environment holds.
REQUIREMENTS = ("bootstrap", "mlflow_onprem/locks")
INSIDE = "/root/mlflow-onprem"
#: The checkout that `bootstrap` ran from, kept by it: a server proves its backups with it.
KEPT = Path("/opt/mlflow-onprem/cli/checkout")
CONFIG = "/etc/mlflow-onprem/config.toml"
_BUILDER = "layer-build"
_IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")

Progress = Callable[[str], None]


def checkout() -> Path:
    """The checkout this program runs from. Raises OnPremError where it was installed without one."""
    root = Path(__file__).resolve().parents[2]
    for place in (root, KEPT):
        if (place / "bootstrap").is_file():
            return place
    raise OnPremError("a sandbox is made from a checkout of mlflow-onprem, and this program runs from an installed copy", "run it in a checkout")


def digest(root: Path, parts: Iterable[str], *more: str) -> str:
    """What a layer made of these parts is called: their names, contents and executable bits."""
    total = hashlib.sha256(json.dumps(more).encode())
    for part in parts:
        for path in sorted([root / part, *(root / part).rglob("*")]):
            if path.is_file() and "__pycache__" not in path.parts:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                total.update(f"{path.relative_to(root)} {path.stat().st_mode & 0o100} {content}\n".encode())
    return total.hexdigest()[:12]


def put(sandbox: Sandbox, root: Path) -> None:
    """Copy the checkout into the host, in place of one that is there."""
    with tempfile.TemporaryDirectory(prefix="mlflow-onprem-") as folder:
        for part in PARTS:
            if (root / part).is_dir():
                shutil.copytree(root / part, Path(folder) / part, ignore=_IGNORED)
            elif (root / part).exists():
                shutil.copy2(root / part, Path(folder) / part)
        sandbox.run(["rm", "-rf", INSIDE])
        sandbox.push(Path(folder), INSIDE)
        sandbox.write(f"{INSIDE}/.digest", digest(root, PARTS))


def bootstrap(sandbox: Sandbox, root: Path, on_line: Progress) -> None:
    """Copy the checkout in and run its `bootstrap`; nothing to do where the same one was bootstrapped."""
    wanted = digest(root, PARTS)
    if sandbox.run(["cat", f"{INSIDE}/.bootstrapped"], ok=(0, 1)).out == wanted:
        return
    put(sandbox, root)
    sandbox.follow([f"{INSIDE}/bootstrap"], on_line, both=True)
    sandbox.write(f"{INSIDE}/.bootstrapped", wanted)


def configure(sandbox: Sandbox, config: str, store: Path | None = None) -> None:
    """Write the configuration. `store`: an object store built on this machine, put where the host looks before it builds one itself."""
    inside = minio_source.cached_path()
    if store is not None and sandbox.run(["test", "-e", inside], ok=(0, 1)).code:
        sandbox.push(store, inside)
    if config:
        sandbox.write(CONFIG, config)


def install(sandbox: Sandbox, config: str, on_line: Progress, store: Path | None = None) -> dict[str, Any]:
    """Configure the host, run `mlflow-onprem install` inside and return what it reports."""
    configure(sandbox, config, store)
    answer: dict[str, Any] = json.loads(sandbox.follow(["mlflow-onprem", "install", "--json"], on_line).out)
    return answer


def bootstrapped(base: Layer, root: Path, on_progress: Progress) -> Layer:
    """The base with this checkout's CLI on it. The CLI's packages are a layer of their own: they change less often than the code."""
    with layers.locked("build"):
        packages = kept_layer(f"cli-{digest(root, REQUIREMENTS, base.key)}", base, lambda host: bootstrap(host, root, on_progress), on_progress)
        key = f"bootstrapped-{digest(root, PARTS, packages.key)}"
        return kept_layer(key, packages, lambda host: bootstrap(host, root, on_progress), on_progress)


def installed(below: Layer, config: str, on_progress: Progress, *, hostname: str = "server", store: Path | None = None) -> Layer:
    """A bootstrapped layer with the whole stack installed, for hosts of that name."""
    with layers.locked("build"):
        key = f"installed-{hashlib.sha256(json.dumps([below.key, config, hostname]).encode()).hexdigest()[:12]}"
        return kept_layer(key, below, lambda host: _discard(install(host, config, on_progress, store)), on_progress, hostname)


def caches() -> list[tuple[str, str]]:
    """Downloads of this machine's sandboxes, shared by them: (here, inside)."""
    shared = {"uv": machine.UV_CACHE, "pip": "/root/.cache/pip"}
    pairs = [(layers.state_dir() / "cache" / name, inside) for name, inside in shared.items()]
    for here, _ in pairs:
        here.mkdir(mode=0o755, parents=True, exist_ok=True)
    return [(str(here), inside) for here, inside in pairs]


def kept_layer(key: str, below: Layer, make: Callable[[Sandbox], None], on_progress: Progress, hostname: str = "server") -> Layer:
    """The layer of that key; where it is not there, what `make` makes of a host on `below`. Call it with the lock `build` held."""
    found = layers.find(key)
    if found is not None:
        return found
    on_progress(f"making the layer {key}")
    sandbox = Sandbox.start(_BUILDER, below, hostname=hostname, binds=caches())
    try:
        make(sandbox)
        layer = sandbox.snapshot(key)
    finally:
        sandbox.destroy()
    layers.keep_newest(sandbox.host, key.rpartition("-")[0], 3, {each.spec.layer for each in Sandbox.every()})
    return layer


def _discard(_: object) -> None:
    return None
