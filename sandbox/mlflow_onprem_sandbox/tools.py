"""The programs sandboxes are made with, and how they come onto the machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.system.apt import Apt, obstacle
from mlflow_onprem.system.local_host import PATH, LocalHost

#: program -> Debian package
TOOLS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "sysctl": "procps",
    "mkfs.ext4": "e2fsprogs",
    "nsenter": "util-linux",
    "tar": "tar",
}


def missing_tools() -> list[str]:
    """The packages whose programs are not here."""
    return sorted({package for program, package in TOOLS.items() if shutil.which(program, path=PATH) is None})


def install_tools(host: LocalHost, on_progress: Callable[[str], None]) -> list[str]:
    """Install what is missing through apt, after saying what; returns it."""
    missing = missing_tools()
    if not missing:
        return []
    on_progress(f"installing {', '.join(missing)} (apt)")
    apt_install(host, missing, f"install them yourself: {', '.join(missing)}")
    still = missing_tools()
    if still:
        raise OnPremError(f"apt installed them and they are still not on the path: {', '.join(still)}", f"look in {PATH}")
    return missing


def apt_install(host: LocalHost, packages: list[str], hint: str) -> None:
    """One apt run, lists fetched first, nothing asked, a busy dpkg waited for."""
    apt = Apt(host)
    try:
        apt.update(packages)
        why = obstacle(host, packages)
        if why is not None:
            raise why
        apt.download(packages)
        apt.get("install", "--no-install-recommends", *packages)
    except OnPremError as failed:
        failed.hint = "; ".join(filter(None, (failed.hint, hint)))
        raise
