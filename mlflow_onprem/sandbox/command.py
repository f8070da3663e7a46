"""`mlflow-onprem sandbox`: a disposable real systemd host with the stack in it, reachable from this machine."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_onprem_sandbox import Sandbox, layers, machine, network, prepare, product, remove_network_if_unused, teardown, tools
from mlflow_onprem_sandbox.layers import Layer

from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings.config import MinioSection
from mlflow_onprem.system import minio_source
from mlflow_onprem.system.local_host import LocalHost

NAME = "try"
SOURCE = '[minio]\ndistribution = "source"\n'

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Account:
    """What a client needs, as `client-env` inside says it."""

    uri: str
    username: str
    password: Secret


@dataclass(frozen=True)
class Up:
    """A sandbox with a stack that serves. `changed`: what install changed in this run; `notes`: what was done otherwise than asked."""

    name: str
    address: str
    url: str
    account: Account
    release: str
    changed: tuple[str, ...]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One sandbox on this machine."""

    name: str
    running: bool
    address: str
    url: str
    release: str
    network: str


@dataclass(frozen=True)
class Status:
    """All sandboxes, and the packages this machine lacks to make one."""

    sandboxes: tuple[Entry, ...]
    missing: tuple[str, ...] = ()
    folder: str = field(default_factory=lambda: str(layers.state_dir()))


@dataclass(frozen=True)
class Down:
    """What was thrown away, and who else needs IP forwarding by now, so that it stays on; empty where it is as it was."""

    removed: tuple[str, ...]
    forwarding: str = ""


def up(
    name: str = NAME,
    *,
    release: str = "bookworm",
    config: Path | None = None,
    on_progress: Progress = lambda _: None,
) -> Up:
    """Make a sandbox, or bring the one of that name up to date: boot it, run this checkout's bootstrap and install inside.

    `config`: a configuration file for it; without one everything is at its default. The store is built from source where its download cannot be
    reached. Raises OnPremError with what failed inside and its last lines.
    """
    began = time.monotonic()
    host = LocalHost()
    machine.require_root(host)
    layers.check_place(host)
    root = product.checkout()
    tools.install_tools(host, on_progress)
    sandbox = Sandbox.find(name)
    text, store, notes = _configuration(host, config, on_progress)
    if sandbox is None:
        base = prepare(release, host=host, on_progress=on_progress)
        _check_forwarding(host)
        layer = product.bootstrapped(base, root, on_progress)
        layer = product.installed(layer, text, on_progress, hostname=name, store=store)
        on_progress(f"starting sandbox {name}")
        sandbox = Sandbox.start(name, layer)
    else:
        on_progress(f"sandbox {name} is there already" if sandbox.running else f"starting sandbox {name}")
        sandbox.boot()
        product.bootstrap(sandbox, root, on_progress)
    report = product.install(sandbox, text, on_progress, store)
    account = _account(sandbox)
    url = f"http://{sandbox.address}:5000"
    changed = tuple(map(str, report.get("changed", ())))
    return Up(name, sandbox.address, url, account, _release(sandbox), changed, round(time.monotonic() - began, 1), notes)


def shell(name: str = NAME) -> int:
    """A terminal inside, as root; returns its exit status. A `reboot` typed there brings the host up again."""
    sandbox = _existing(name)
    sandbox.boot()
    code = sandbox.shell()
    if sandbox.rebooting():
        sandbox.reboot()
    return code


def status() -> Status:
    """What is there. Root sees all; the state folder is closed to others."""
    machine.require_root(LocalHost())
    entries = tuple(
        Entry(each.name, each.running, each.address, f"http://{each.address}:5000", _release(each), each.spec.network) for each in Sandbox.every()
    )
    return Status(entries, tuple(tools.missing_tools()))


def down(name: str = NAME, *, everything: bool = False) -> Down:
    """Throw a sandbox away; `everything`: all of them, and the bridge, the firewall table and forwarding with them. Layers stay for the next."""
    machine.require_root(LocalHost())
    if everything:
        names = tuple(each.name for each in Sandbox.every())
        return Down(names, teardown())
    sandbox = Sandbox.find(name)
    if sandbox is not None:
        sandbox.destroy()
    return Down(() if sandbox is None else (name,), remove_network_if_unused())


def store_from_source(host: LocalHost, on_progress: Progress) -> Path:
    """The object store built from source on this machine, once."""
    kept = minio_source.cached_path()
    minio_source.build(host, kept, on_progress=on_progress)
    return Path(kept)


def parse_account(text: str) -> Account:
    """`client-env --shell dotenv` -> the account. Raises OnPremError where a variable is missing."""
    pairs = (line.removeprefix("export ").partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    values = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    try:
        uri = values["MLFLOW_TRACKING_URI"]
    except KeyError:
        raise OnPremError("`mlflow-onprem client-env` inside did not say where MLflow is") from None
    return Account(uri, values.get("MLFLOW_TRACKING_USERNAME", ""), Secret(values.get("MLFLOW_TRACKING_PASSWORD", "")))


def _configuration(host: LocalHost, config: Path | None, on_progress: Progress) -> tuple[str, Path | None, tuple[str, ...]]:
    """The configuration's text, the built store that goes with it, and what to tell the person."""
    from mlflow_onprem.settings import config_file, topology
    from mlflow_onprem.settings.topology import ExternalStore
    from mlflow_onprem.stack import minio
    from mlflow_onprem.system import download

    text = ""
    if config is not None:
        try:
            text = config.read_text()
        except OSError as failed:
            raise Refused(f"{config} cannot be read: {failed.strerror}") from failed
    wanted = config_file.load(str(config), {}).config.minio if config is not None else MinioSection()
    if isinstance(topology.store(wanted), ExternalStore) or wanted.url is not None:
        return text, None, ()
    if wanted.distribution == "source":
        return text, store_from_source(host, on_progress), ()
    stores = minio.SILO if wanted.distribution == "silo" else minio.MINIO
    try:
        download.probe(stores["arm64" if os.uname().machine == "aarch64" else "amd64"].url)
    except OnPremError as failed:
        which = "the default object store" if wanted.distribution == "silo" else f'the object store "{wanted.distribution}"'
        note = f"{which} cannot be downloaded here ({failed.message}); the sandbox gets MinIO built from source"
        on_progress(note)
        return from_source(text), store_from_source(host, on_progress), (note,)
    return text, None, ()


def from_source(text: str) -> str:
    """The same configuration with `distribution = "source"` in [minio], which may have the key, the section, or neither."""
    setting = 'distribution = "source"\n'
    header = re.search(r"(?m)^[ \t]*\[[ \t]*minio[ \t]*\][^\n]*(\n|\Z)", text)
    if header is None:
        return f"{text.rstrip()}\n[minio]\n{setting}".lstrip()
    rest = text[header.end() :]
    following = re.search(r"(?m)^[ \t]*\[", rest)
    own = rest[: following.start()] if following else rest
    kept = re.sub(r"(?m)^[ \t]*distribution[ \t]*=.*\n?", "", own)
    return f"{text[: header.end()].rstrip()}\n{setting}{kept}{rest[len(own) :]}"


def _check_forwarding(host: LocalHost) -> None:
    why = network.blocked(host)
    if why:
        bridge = network.bridge_name(str(layers.state_dir()))
        chain = "DOCKER-USER" if host.run(["nft", "list", "chain", "ip", "filter", "DOCKER-USER"], ok=(0, 1)).code == 0 else "FORWARD"
        raise Refused(
            f"a sandbox would have no network: {why}",
            f"allow it: `iptables -I {chain} -i {bridge} -j ACCEPT` and `iptables -I {chain} -o {bridge} -j ACCEPT`; then run the same command again",
        )


def _existing(name: str) -> Sandbox:
    sandbox = Sandbox.find(name)
    if sandbox is None:
        raise OnPremError(f"there is no sandbox {name}", f"`sudo mlflow-onprem sandbox up{'' if name == NAME else f' --name {name}'}` makes one")
    return sandbox


def _account(sandbox: Sandbox) -> Account:
    return parse_account(sandbox.run(["mlflow-onprem", "client-env", "--shell", "dotenv"]).out)


def _release(sandbox: Sandbox) -> str:
    """Which release it was made of: the base is the lowest of its layers."""
    layer = layers.find(sandbox.spec.layer) or Layer(sandbox.spec.layer)
    return (layer.below or (layer.key,))[-1].split("-")[1]
