"""Read-only trees that hosts are made of: a base made once with mmdebstrap, and snapshots of stopped hosts on top.

A layer is a folder `layers/KEY/` with `tree/` and `layer.json`; it is built under another name and renamed, so what has its name is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mlflow_onprem.core.errors import CommandFailed, OnPremError
from mlflow_onprem.system.fetching import run as fetch
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem_sandbox import keyrings, machine, place, tools
from mlflow_onprem_sandbox.network import DEFAULT_STATE
from mlflow_onprem_sandbox.process import unmount_below

#: What a plain server has. No Python, pip, make or compiler: `bootstrap` must bring what it needs.
PACKAGES = ("systemd", "systemd-sysv", "dbus", "ca-certificates", "iproute2", "sudo", "login", "procps", "netbase", "tzdata", "less", "nftables")
_FORMAT = "3"


@dataclass(frozen=True)
class Layer:
    """One tree and, topmost first, the keys of those below it.

    `address`: what the host had that was made a layer. A clone gets it too where it is free, so that what was set up for it still fits.
    """

    key: str
    below: tuple[str, ...] = ()
    address: str = ""

    def trees(self) -> list[Path]:
        """Every tree of the stack, topmost first, as overlayfs wants them."""
        return [layers_dir() / key / "tree" for key in (self.key, *self.below)]


def state_dir() -> Path:
    """Where sandboxes live."""
    return Path(os.environ.get("MLFLOW_ONPREM_SANDBOX_DIR") or DEFAULT_STATE).absolute()


def layers_dir() -> Path:
    return state_dir() / "layers"


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time; the kernel lets go when it dies."""
    folder = state_dir()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find(key: str) -> Layer | None:
    """The layer of that name, if it and everything below it is there."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        record = json.loads((layers_dir() / key / "layer.json").read_text())
        layer = Layer(key, tuple(record["below"]), record["address"])
        if all(tree.is_dir() for tree in layer.trees()):
            return layer
    return None


def publish(host: LocalHost, folder: Path, layer: Layer) -> Layer:
    """Give a finished folder its name."""
    host.write(f"{folder}/layer.json", json.dumps({"below": layer.below, "address": layer.address}).encode(), mode=0o600, owner="root", group="root")
    host.remove(str(layers_dir() / layer.key))
    host.rename(str(folder), str(layers_dir() / layer.key))
    return layer


def scratch(host: LocalHost) -> Path:
    """A fresh folder to build a layer in. Call it with the lock `layers` held: what an interrupted build left is removed."""
    layers_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in host.listdir(str(layers_dir())):
        if name.startswith(".new"):
            unmount_below(host, layers_dir() / name)
            host.remove(str(layers_dir() / name))
    folder = layers_dir() / ".new"
    folder.mkdir(mode=0o700)
    return folder


def keep_newest(host: LocalHost, kind: str, count: int, in_use: set[str]) -> None:
    """Forget old layers `KIND-...` that no host and no other layer stands on."""
    with locked("layers"):
        every = {name: find(name) for name in host.listdir(str(layers_dir())) if not name.startswith(".")}
        needed = in_use | {below for layer in every.values() if layer for below in layer.below}
        mine = [name for name in every if name.rpartition("-")[0] == kind]
        mine.sort(key=lambda name: (layers_dir() / name).stat().st_mtime, reverse=True)
        for name in mine[count:]:
            if name not in needed:
                host.remove(str(layers_dir() / name))


def check_place(host: LocalHost) -> None:
    """Raises Refused where sandboxes cannot be kept or mounted."""
    with locked("place"):
        place.check(host, state_dir())


def prepare(release: str = "bookworm", *, host: LocalHost | None = None, on_progress: Callable[[str], None] = lambda _: None) -> Layer:
    """The base tree of a release, made now if this machine's settings have not made the same before.

    Raises OnPremError where the release's archive is not known or not reachable here.
    """
    host = host or LocalHost()
    machine.require_root(host)
    check_place(host)
    tools.install_tools(host, on_progress)
    kind = machine.family(release)
    lines = machine.apt_lines(machine.read_sources(host), release, os.environ.get("MLFLOW_ONPREM_SANDBOX_MIRROR"))
    settings = machine.read_apt_settings(host)
    trusted = machine.read_authorities(host)
    digest = hashlib.sha256(json.dumps([_FORMAT, release, PACKAGES, lines, settings, sorted(trusted)]).encode()).hexdigest()[:12]
    key = f"base-{release}-{digest}"
    with locked("layers"):
        found = find(key)
        if found is not None:
            return found
        on_progress(f"making the base tree of {release} (once, about a minute)")
        folder = scratch(host)
        tree = folder / "tree"
        _bootstrap(host, release, lines, settings, tree, keyrings.ensure(host, kind, state_dir(), lines))
        _trust(host, tree, trusted)
        return publish(host, folder, Layer(key))


def _bootstrap(host: LocalHost, release: str, lines: list[str], settings: list[str], tree: Path, keyring: str) -> None:
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(('apt', *PACKAGES))}"]
    argv += [f"--components={','.join(machine.COMPONENTS[machine.family(release)])}"]
    # A disposable host need not survive a power cut of this machine: unpacking without fsync is much faster.
    argv += ["--dpkgopt=force-unsafe-io", f"--keyring={keyring}"]
    argv += [f"--aptopt={line.rstrip(';')}" for line in settings]
    try:
        told = "\n".join(lines) + "\n" if lines else None
        names = [name for line in lines if (name := urlsplit(line.split()[1]).hostname)]
        fetch(host, [*argv, release, str(tree), *(["-"] if lines else [])], stdin=told, timeout=1800, names=names, again=lambda: _clear(host, tree))

    except CommandFailed as failed:
        known = "apt of this machine names no archive of it" if not lines else "its archive did not answer"
        raise OnPremError(
            f"the base tree of {release} could not be made: {known}",
            "name a mirror that this machine reaches: MLFLOW_ONPREM_SANDBOX_MIRROR=http://...",
            failed.output,
        ) from failed


def _clear(host: LocalHost, tree: Path) -> None:
    """A tree that was ended half-way: mmdebstrap wants an empty folder."""
    unmount_below(host, tree)
    host.remove(str(tree))


def _trust(host: LocalHost, tree: Path, trusted: list[str]) -> None:
    """Authorities that this machine knows and the release does not, in the place where a later `update-ca-certificates` keeps them."""
    known = set(machine.authorities((tree / machine.BUNDLE.lstrip("/")).read_text()))
    extra = [pem for pem in trusted if pem not in known]
    for number, pem in enumerate(extra):
        path = f"{tree}/usr/local/share/ca-certificates/machine-{number:03d}.crt"
        host.write(path, f"{pem}\n".encode(), mode=0o644, owner="root", group="root")
    if extra:
        host.run(["chroot", str(tree), "update-ca-certificates"], timeout=120)
