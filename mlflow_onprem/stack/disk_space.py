"""Room on the filesystems that the stack writes to, in bytes and in inodes: a disk without inodes is as full as one without bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from mlflow_onprem.core.errors import ConfigError, OnPremError, Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.topology import LocalPostgres

POSTGRES = "/var/lib/postgresql"
#: Where services and we ourselves write, besides the folders with data.
PLACES = ("/etc", "/opt/mlflow-onprem", "/var/lib/mlflow", "/var/lib/mlflow-onprem", "/var/tmp", "/var/log", "/run")  # noqa: S108
#: Below that PostgreSQL cannot make its next file of WAL, and we cannot write our own files.
BYTES, INODES = 16 << 20, 100
#: MinIO refuses to write before that: from 99 % of the bytes on, and below so many inodes.
STORE_SHARE, STORE_INODES = 100, 1000
HINT = "free some (`df -h`, `df -i`, `sudo apt-get clean`; what users deleted: `sudo mlflow-onprem gc`), or mount a larger disk there"


@dataclass(frozen=True)
class Room:
    """One filesystem: the first folder of ours on it, where it is mounted, and what an account that is not root may still use of it.

    `inodes` is 0 where the filesystem has no fixed number of them.
    """

    place: str
    mount: str
    size: int
    free: int
    inodes: int
    free_inodes: int
    holds_objects: bool = False

    @property
    def full(self) -> bool:
        """Whether a service fails here now."""
        least = max(BYTES, self.size // STORE_SHARE) if self.holds_objects else BYTES
        return self.free < least or (self.inodes > 0 and self.free_inodes < (STORE_INODES if self.holds_objects else INODES))

    def __str__(self) -> str:
        inodes = f" and {self.free_inodes} of {self.inodes} inodes" if self.inodes else ""
        on_it = "" if self.place == self.mount else f", and {self.place} is on it"
        return f"{self.mount} has {self.free / 2**20:.1f} of {self.size / 2**20:.0f} MiB{inodes} free{on_it}"


def look(host: Host, places: Iterable[str], objects: Iterable[str] = ()) -> tuple[Room, ...]:
    """Every filesystem under these folders and under those with `objects`, once. Where a folder is not there yet, the one it will be made in."""
    found: dict[int, Room] = {}
    for place, holds in [*((each, True) for each in objects), *((each, False) for each in places)]:
        there = PurePosixPath(place)
        try:
            while not host.local(str(there)).exists():
                there = there.parent
            path = host.local(str(there))
            device, seen = path.stat().st_dev, os.statvfs(path)
        except OSError:  # closed to this account
            continue
        while str(there) != "/" and host.local(str(there.parent)).stat().st_dev == device:
            there = there.parent
        size, free = seen.f_blocks * seen.f_frsize, seen.f_bavail * seen.f_frsize
        if size:
            found.setdefault(device, Room(place, str(there), size, free, seen.f_files, seen.f_favail, holds))
    return tuple(found.values())


def of(host: Host, config: Config) -> tuple[Room, ...]:
    """Every filesystem that this configuration's stack writes to."""
    postgres = (POSTGRES,) if isinstance(topology.postgres(config), LocalPostgres) else ()
    return look(host, (*PLACES, *postgres), topology.store(config.minio).folders)


def check(rooms: Iterable[Room]) -> None:
    """Raises Refused where one of them is full."""
    for each in rooms:
        if each.full:
            raise Refused(f"the disk is full: {each}", f"{HINT}; then run this again")


def explained(host: Host, error: OnPremError) -> OnPremError:
    """A failure with its cause, where that is a full disk: whoever fails of it says something else."""
    if isinstance(error, (ConfigError, Refused)) or "disk is full: /" in f"{error.message} {error.hint}":
        return error
    volumes = re.search(r'^MINIO_VOLUMES="(.*)"$', (host.read("/etc/mlflow-onprem/minio.env") or b"").decode(), re.MULTILINE)
    objects = [each for each in volumes[1].split() if each.startswith("/") and "{" not in each] if volumes else []
    full = [str(each) for each in look(host, (*PLACES, POSTGRES), objects) if each.full]
    if full:
        error.hint = f"the disk is full: {'; '.join(full)}. {HINT[0].upper()}{HINT[1:]}; then run the same command again"
    return error
