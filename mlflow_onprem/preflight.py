"""What can be known to fail is refused before the first change."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from mlflow_onprem import addresses, preflight_postgres, trial
from mlflow_onprem.assembly import Assembly
from mlflow_onprem.checks import accounts
from mlflow_onprem.config import Config
from mlflow_onprem.download import local_path, probe
from mlflow_onprem.engine import Stack
from mlflow_onprem.errors import ConfigError, OnPremError, Refused
from mlflow_onprem.host import Host
from mlflow_onprem.resources import bundle, packages
from mlflow_onprem.resources.apt import obstacle
from mlflow_onprem.resources.binary import Download, PinnedBinary
from mlflow_onprem.resources.environment import Environment
from mlflow_onprem.resources.packages import AptPackages
from mlflow_onprem.resources.schema import Schema, SchemaState
from mlflow_onprem.stages import minio, postgres

#: Free bytes that a first installation needs below a path; MLflow's environment takes 1.4 GB with its byte code.
NEEDED = {"/opt": 3 << 30, "/var": 1 << 30}
#: Free bytes that a rotation needs for its files and for what the services write meanwhile.
ROOM = 16 << 20
SLEEPING_LISTEN = "0A"


def check(host: Host, assembly: Assembly, stack: Stack | None = None) -> None:
    """Raises Refused where `install` (or, with its own `stack`, an upgrade) would fail or harm."""
    if not host.is_root:
        raise Refused("this changes the system and needs root", "run it with sudo")
    if host.stat("/run/systemd/system") is None:
        raise Refused("systemd does not run this system (a container, or another init)", "use a plain server or virtual machine with systemd")
    check_schedule(host, assembly.config)
    check_addresses(host, assembly.config)
    preflight_postgres.check(host, assembly)
    trial.check(host, assembly)
    accounts.check(host, assembly)
    _check_ports(host, assembly)
    _check_places(host, assembly)
    check_data(host, assembly.config)
    _check_packages(host, assembly)
    _check_download(host, assembly)
    _check_schema(host, stack or assembly.stack)


def check_schedule(host: Host, config: Config) -> None:
    """Raises ConfigError for a time that systemd does not understand. Where there is no systemd-analyze, nothing is said."""
    schedule = config.backup.schedule
    if schedule is not None and host.run(["systemd-analyze", "calendar", "--", schedule], ok=(0, 1, 127)).code == 1:
        raise ConfigError(
            f"backup.schedule: {schedule!r} is no time of systemd's",
            'for example "*-*-* 03:30" or "Sun 04:00"; see: man systemd.time, Calendar Events',
        )


def check_room(host: Host) -> None:
    """Raises Refused where a disk that secrets are written to is full: PostgreSQL itself may be down of it, and say something else."""
    for place in ("/etc", "/var"):
        free = shutil.disk_usage(host.local(place)).free
        if free < ROOM:
            raise Refused(
                f"the disk is full: {place} has {free / 2**20:.1f} MiB free, {ROOM >> 20} MiB are needed",
                "free some space (`df -h`, `sudo apt-get clean`), then run this again",
            )


def check_addresses(host: Host, config: Config) -> None:
    """Raises Refused for a service bound to an address that this host does not have: systemd would start it again and again."""
    wanted = [("mlflow.bind", config.mlflow.bind)]
    if config.minio.mode == "local":
        wanted += [("minio.bind", config.minio.bind), ("minio.console_bind", config.minio.console_bind)]
    for key, address in wanted:
        if not addresses.has(address):
            has = ", ".join(addresses.of_host(host)) or "none but loopback"
            raise Refused(
                f"{key} is {address}, and this host does not have that address now (it has {has})",
                f"set {key} in /etc/mlflow-onprem/config.toml to one that it has; 0.0.0.0 stands for all of them, :: for those of IPv6 too",
            )


def _check_ports(host: Host, assembly: Assembly) -> None:
    config = assembly.config
    ours = {
        config.mlflow.port: ("mlflow.service", "mlflow.port"),
        **({config.minio.port: ("minio.service", "minio.port")} if config.minio.mode == "local" else {}),
        **({config.minio.console_port: ("minio.service", "minio.console_port")} if config.minio.mode == "local" else {}),
        **({config.postgres.port: (postgres.unit(assembly.facts), "postgres.port")} if config.postgres.mode == "local" else {}),
    }
    for port, (unit, key) in ours.items():
        if assembly.adoption is not None and port in assembly.adoption.ports:
            continue  # what was started there by hand is stopped, and plan says so
        for pid, program, owner in holders(host, port):
            if not owner.startswith(unit):
                raise Refused(
                    f"port {port} is held by another program: {program} (pid {pid}{', ' + owner if owner else ''})",
                    f"stop it, or give ours another port: {key} in /etc/mlflow-onprem/config.toml",
                )


def holders(host: Host, port: int) -> list[tuple[int, str, str]]:
    """Who listens on a TCP port: pid, program, unit. Reads /proc, so no tool is needed for it."""
    inodes = {inode for name in ("tcp", "tcp6") for inode in parse_listeners((host.read(f"/proc/net/{name}") or b"").decode(), port)}
    return [_describe(host, pid) for pid in _owners(inodes)] if inodes else []


def parse_listeners(text: str, port: int) -> list[str]:
    """Socket inodes that listen on a port, from /proc/net/tcp or tcp6."""
    rows = (line.split() for line in text.splitlines()[1:])
    return [row[9] for row in rows if len(row) > 9 and row[3] == SLEEPING_LISTEN and int(row[1].rpartition(":")[2], 16) == port]


def _owners(inodes: set[str]) -> Iterable[int]:
    links = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(os.readlink(descriptor) in links for descriptor in (process / "fd").iterdir()):
                yield int(process.name)
                return
        except OSError:  # it ended meanwhile
            continue


def _describe(host: Host, pid: int) -> tuple[int, str, str]:
    command = (host.read(f"/proc/{pid}/comm") or b"?").decode().strip()
    group = (host.read(f"/proc/{pid}/cgroup") or b"").decode()
    units = re.findall(r"([^/\n]+\.service)", group)
    return pid, command, units[-1] if units else ""


def _check_places(host: Host, assembly: Assembly) -> None:
    if not any(isinstance(each, Environment) and host.stat(f"{each.directory}/environment.json") is None for each in assembly.stack):
        return
    for place, needed in NEEDED.items():
        free = shutil.disk_usage(host.local(place)).free
        if free < needed:
            raise Refused(
                f"{place} has {free / 2**30:.1f} GiB free, {needed / 2**30:.0f} GiB are needed",
                "free some space (`df -h`, `sudo apt-get clean`), or mount a larger disk there",
            )
    if assembly.config.minio.mode == "local":
        folder = Path(assembly.config.minio.data_dir)
        while not host.local(str(folder)).exists():
            folder = folder.parent
        if host.run(["stat", "-f", "-c", "%T", str(folder)]).out.strip() in ("tmpfs", "ramfs"):
            raise Refused(f"minio.data_dir {assembly.config.minio.data_dir} would lie in memory ({folder} is a tmpfs)", "name a folder on a disk")


def check_data(host: Host, config: Config) -> None:
    """Raises Refused for an empty store in the place of a full one: every artifact would seem lost, and new ones would go to the wrong disk."""
    folders = minio.missing_data(host, config.minio)
    if folders:
        raise Refused(
            f"the object store's data is not in {' '.join(folders)}, where it was: its disk is not mounted, or the folder was moved or emptied",
            "mount the disk (`findmnt`, `lsblk`, `sudo mount -a`) and run this again. If the data is gone for good, bring it back from a backup: "
            f"`sudo mlflow-onprem restore ID`; or begin without it: `sudo rm {minio.FOUNDED}`, then this command again",
        )


def _check_schema(host: Host, stack: Stack) -> None:
    """Tables that exist are migrated by `upgrade`, which has a way back, and by nothing else."""
    for each in stack:
        if isinstance(each, Schema) and isinstance(have := each.observe(host), SchemaState):
            each.check_may_change(have)


def _check_packages(host: Host, assembly: Assembly) -> None:
    """Ask apt, where packages are missing: a pin, a hold or unmet dependencies show in a simulation, which changes nothing."""
    for each in assembly.stack:
        if not isinstance(each, AptPackages) or each.want is None or packages.installed(host, each.packages) == each.want.installed:
            continue
        why = obstacle(host, each.packages, bundle.apt_options(host, each.packages), fresh=not each.lists_are_old(host))
        if why is not None:
            raise Refused(why.message, why.hint, why.output)


def _check_download(host: Host, assembly: Assembly) -> None:
    """Ask for the first bytes of what has to be fetched: a refused, moved or disguised download shows before anything is changed."""
    for each in assembly.stack:
        if isinstance(each, PinnedBinary) and isinstance(each.source, Download) and each.observe(host) is None:
            if bundle.program(host, each.source.sha256) is not None:
                continue
            path = local_path(each.source.url)
            try:
                if path is not None and not path.is_file():
                    raise OnPremError(f"there is no file {path}", "check `url` in [minio] of the configuration")
                probe(each.source.url)
            except OnPremError as failed:
                raise Refused(failed.message, bundle.other_store(host) or failed.hint) from failed
