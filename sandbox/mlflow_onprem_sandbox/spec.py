"""What a host is made of, as it is remembered on disk, and the mounts and files that make it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mlflow_onprem.core.errors import ConfigError
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem_sandbox import layers, machine, network
from mlflow_onprem_sandbox.layers import Layer
from mlflow_onprem_sandbox.process import mounts_below, unmount_below

_NAME = re.compile(r"[a-z][a-z0-9-]{0,40}")


@dataclass(frozen=True)
class Spec:
    """One host. `network="isolated"`: reached from this machine, reaches nothing. `disk` and `memory` as in 512M."""

    name: str
    layer: str
    address: str
    machine_id: str
    hostname: str
    network: Literal["normal", "isolated"] = "normal"
    disk: str | None = None
    memory: str | None = None
    binds: tuple[tuple[str, str], ...] = ()
    nspawn: tuple[str, ...] = ()

    @classmethod
    def remains(cls, name: str) -> Spec:
        """A host whose record is lost: enough to throw away what is left of it."""
        return cls(name, "", "", "", name)

    @property
    def folder(self) -> Path:
        return hosts_dir() / self.name

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def storage(self) -> Path:
        """Where overlayfs writes: a folder, or a filesystem of its own where the disk is small."""
        return self.folder / "disk" if self.disk else self.folder

    @property
    def unit(self) -> str:
        """The cgroup (a scope, where the machine runs systemd)."""
        return f"{network.bridge_name(str(layers.state_dir()))}-{self.name}.scope"


def hosts_dir() -> Path:
    return layers.state_dir() / "hosts"


def check_name(name: str) -> str:
    """Raises ConfigError for what cannot be a host name and a folder."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"not a name for a sandbox: {name!r}", "lower-case letters, digits and dashes, a letter first")
    return name


def load(name: str) -> Spec | None:
    """The host of that name as it was made, if there is one."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        fields = json.loads((hosts_dir() / check_name(name) / "spec.json").read_text())
        pairs = tuple((here, inside) for here, inside in fields.pop("binds"))
        return Spec(**{**fields, "binds": pairs, "nspawn": tuple(fields["nspawn"])})
    return None


def names() -> list[str]:
    """Every host that was made and not destroyed, and what a crash left of one."""
    return sorted(entry.name for entry in hosts_dir().iterdir() if _NAME.fullmatch(entry.name)) if hosts_dir().is_dir() else []


def every() -> list[Spec]:
    """Every host whose record is whole."""
    return [spec for spec in map(load, names()) if spec is not None]


def save(host: LocalHost, spec: Spec) -> None:
    host.write(f"{spec.folder}/spec.json", json.dumps(asdict(spec)).encode(), mode=0o600, owner="root", group="root")


def mount(host: LocalHost, spec: Spec, layer: Layer) -> None:
    """Stack the layers under the host's own; nothing to do where that is done."""
    if spec.root in mounts_below(spec.root):
        return
    spec.root.mkdir(exist_ok=True)
    if spec.disk:
        spec.storage.mkdir(exist_ok=True)
        image = spec.folder / "disk.img"
        if not image.exists():
            host.run(["truncate", f"--size={spec.disk}", str(image)])
            host.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], timeout=120)
        if spec.storage not in mounts_below(spec.storage):
            host.run(["mount", "-o", "loop", str(image), str(spec.storage)], hint="a small disk needs a loop device: look into /dev/loop*")
    upper, work = spec.storage / "upper", spec.storage / "work"
    for folder in (upper, work):
        folder.mkdir(exist_ok=True, mode=0o755)
    lower = ":".join(map(str, layer.trees()))
    # Without redirect_dir no folder of a layer can be renamed; MinIO deletes that way, and what it deleted would be back at its next start.
    host.run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=on", str(spec.root)])


def unmount(host: LocalHost, spec: Spec) -> None:
    unmount_below(host, spec.folder)


def furnish(host: LocalHost, spec: Spec) -> None:
    """Before each boot: who the host is, and how this machine reaches packages (its settings may have changed)."""
    inside = LocalHost(spec.root)
    isolated = spec.network == "isolated"
    variables = {} if isolated else machine.carried(os.environ)
    files = {
        "/etc/hostname": f"{spec.hostname}\n",
        "/etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n{spec.address} {spec.hostname}\n",
        "/etc/machine-id": f"{spec.machine_id}\n",
        "/etc/resolv.conf": "" if isolated else machine.read_resolvers(host),
        # sudo and login read it; systemd's own services get none, as on a real server.
        "/etc/environment": "".join(f'{name}="{value}"\n' for name, value in sorted(variables.items())),
    }
    contents = {path: text.encode() for path, text in files.items()}
    if not isolated:
        contents |= machine.read_configured(host)
    for path, content in contents.items():
        if inside.stat(path) is not None and inside.readlink(path) is not None:
            inside.remove(path)
        inside.local(path).parent.mkdir(parents=True, exist_ok=True)
        inside.write(path, content, mode=0o644, owner="root", group="root")


def argv(spec: Spec, namespace: str) -> list[str]:
    """The command line of the host. `--directory=` is what we find it by."""
    links = [] if spec.network == "isolated" else [path for path in machine.local_links(os.environ) if Path(path).is_dir()]
    binds = [f"--bind={here}:{inside}" for here, inside in spec.binds]
    return [
        *("systemd-nspawn", "--boot", f"--directory={spec.root}", f"--machine={spec.name}", f"--hostname={spec.hostname}"),
        *("--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only"),
        *(f"--uuid={uuid.UUID(spec.machine_id)}", f"--network-namespace-path={namespace}", "--capability=CAP_NET_ADMIN"),
        *(f"--bind-ro={path}" for path in links),
        *(*binds, *spec.nspawn),
    ]
