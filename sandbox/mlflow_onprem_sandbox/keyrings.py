"""The keys that archives are signed with, for releases of the other family than this machine's: Debian 12 packages none of Ubuntu's."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from mlflow_onprem.system.apt import candidate
from mlflow_onprem.system.download import fetch
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem_sandbox import machine, tools

PACKAGES = {"debian": ("debian-archive-keyring",), "ubuntu": ("ubuntu-keyring", "ubuntu-archive-keyring")}
#: Ubuntu's own package of its keys (valid for 22.04, 24.04 and later), by its digest: the archive is trusted because this file is the one we know.
PINNED = (
    "pool/main/u/ubuntu-keyring/ubuntu-keyring_2021.03.26_all.deb",
    "0d0e7ed6b112f5d03eabf3c7eb01ebdacf9c57714b279e90495cfc58c8c4520f",
)


def ensure(host: LocalHost, family: str, folder: Path, lines: list[str]) -> str:
    """The path of the family's keyring: this machine's, installed by apt where that has it, else Ubuntu's own package fetched into `folder`.

    `lines` are the archive's, for the mirror in use. Raises OnPremError where it cannot be fetched.
    """
    path = machine.KEYRINGS[family]
    if host.read(path):
        return path
    offered = [name for name in PACKAGES[family] if candidate(host, name) is not None]
    if offered or family != "ubuntu":
        tools.apt_install(host, [*offered, *PACKAGES[family]][:1], f"{path} is needed")
        return path
    kept = folder / "keyrings" / Path(path).name
    if not kept.exists():
        place, digest = PINNED
        mirror = next((line.split()[1] for line in lines if urlsplit(line.split()[1]).hostname), machine.UBUNTU)
        package = folder / "keyrings" / "ubuntu-keyring.deb"
        package.parent.mkdir(parents=True, exist_ok=True)
        fetch(f"{mirror.rstrip('/')}/{place}", package, digest, lambda *_: None)
        host.run(["dpkg-deb", "--extract", str(package), str(package.parent / "unpacked")])
        (package.parent / "unpacked" / path.lstrip("/")).replace(kept)
        host.remove(str(package.parent / "unpacked"))
    return str(kept)
