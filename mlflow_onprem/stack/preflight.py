"""What can be known to fail is refused before the first change."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from mlflow_onprem.core.engine import Stack
from mlflow_onprem.core.errors import ConfigError, OnPremError, Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.resources import packages
from mlflow_onprem.resources.binary import Download, PinnedBinary
from mlflow_onprem.resources.environment import Environment
from mlflow_onprem.resources.packages import AptPackages
from mlflow_onprem.resources.schema import Schema, SchemaState
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.topology import LocalStore
from mlflow_onprem.stack import account_checks, disk_space, minio, postgres, preflight_postgres, unit_trial
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system import bundle, host_addresses, ports
from mlflow_onprem.system.apt import obstacle
from mlflow_onprem.system.download import local_path, probe

#: Free bytes and inodes that a first installation needs below a path; MLflow's environment takes 1.4 GB with its byte code, and 40,000 inodes.
NEEDED = {"/opt": (3 << 30, 60_000), "/var": (1 << 30, 10_000), disk_space.POSTGRES: (512 << 20, 5_000)}
#: Free bytes that a rotation needs for its files and for what the services write meanwhile.
ROOM = 16 << 20


def check(host: Host, assembly: Assembly, stack: Stack | None = None) -> None:
    """Raises Refused where `install` (or, with its own `stack`, an upgrade) would fail or harm."""
    if not host.is_root:
        raise Refused("this changes the system and needs root", "run it with sudo")
    if host.stat("/run/systemd/system") is None:
        raise Refused("systemd does not run this system (a container, or another init)", "use a plain server or virtual machine with systemd")
    check_schedule(host, assembly.config)
    check_addresses(host, assembly.config)
    preflight_postgres.check(host, assembly)
    unit_trial.check(host, assembly)
    account_checks.check(host, assembly)
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
    disk_space.check(disk_space.look(host, (*disk_space.PLACES, disk_space.POSTGRES)))
    for place in ("/etc", "/var"):
        free = shutil.disk_usage(host.local(place)).free
        if free < ROOM:
            raise Refused(
                f"the disk is full: {place} has {free / 2**20:.1f} MiB free, {ROOM >> 20} MiB are needed",
                "free some space (`df -h`, `sudo apt-get clean`), then run this again",
            )


def check_addresses(host: Host, config: Config) -> None:
    """Raises Refused for a service bound to an address that this host does not have: systemd would start it again and again."""
    for key, address in (("mlflow.bind", config.mlflow.bind), *topology.store(config.minio).binds):
        if not host_addresses.has(address):
            has = ", ".join(host_addresses.of_host(host)) or "none but loopback"
            raise Refused(
                f"{key} is {address}, and this host does not have that address now (it has {has})",
                f"set {key} in /etc/mlflow-onprem/config.toml to one that it has; 0.0.0.0 stands for all of them, :: for those of IPv6 too",
            )


def foreseen(host: Host, assembly: Assembly) -> tuple[str, ...]:
    """What `plan` can know of why `install` would stop here, also without root: full disks and held ports, each with its way out."""
    full = [each for each in disk_space.of(host, assembly.config) if each.full]
    found = [f"the disk is full: {each}: {disk_space.HINT}" for each in full]
    found += [f"{each.message}: {each.hint}" for each in _held_ports(host, assembly)]
    return tuple(f"install would stop: {each}" for each in found)


def _check_ports(host: Host, assembly: Assembly) -> None:
    for each in _held_ports(host, assembly):
        raise each


def _held_ports(host: Host, assembly: Assembly) -> Iterator[Refused]:
    config = assembly.config
    ours = {
        config.mlflow.port: ("mlflow.service", "mlflow.port"),
        **{port: ("minio.service", key) for key, port in topology.store(config.minio).ports},
        **{port: (postgres.unit(assembly.facts), key) for key, port in topology.postgres(config).ports},
    }
    for port, (unit, key) in ours.items():
        if assembly.adoption is not None and port in assembly.adoption.ports:
            continue  # what was started there by hand is stopped, and plan says so
        for held in ports.foreign(host, port, unit, assembly.to.systemd.status(unit).main_pid):
            # What outlived a service of ours is ended where its service starts.
            if not ports.is_leftover(held, unit):
                yield Refused(
                    f"port {port} is held by another program: {held}",
                    f"stop it ({held.way_out}), or give ours another port: {key} in /etc/mlflow-onprem/config.toml",
                )


def _check_places(host: Host, assembly: Assembly) -> None:
    config = assembly.config
    rooms = disk_space.of(host, config)
    disk_space.check(rooms)
    if not any(isinstance(each, Environment) and host.stat(f"{each.directory}/environment.json") is None for each in assembly.stack):
        return
    for place, (needed, inodes) in NEEDED.items():
        for each in disk_space.look(host, [place]):
            if each.free < needed:
                raise Refused(
                    f"{place} has {each.free / 2**30:.1f} GiB free, {needed / 2**30:.1f} GiB are needed",
                    "free some space (`df -h`, `sudo apt-get clean`), or mount a larger disk there",
                )
            if each.inodes and each.free_inodes < inodes:
                raise Refused(
                    f"{each.mount} has {each.free_inodes} of {each.inodes} inodes free, {inodes} are needed: so many files are made in {place}",
                    "remove many small files (`df -i`, `sudo du --inodes -x -d 2 / | sort -n | tail`), or mount a disk with more inodes there",
                )
    if isinstance(topology.store(config.minio), LocalStore):
        folder = Path(assembly.config.minio.data_dir)
        while not host.local(str(folder)).exists():
            folder = folder.parent
        if host.run(["stat", "-f", "-c", "%T", str(folder)]).out.strip() in ("tmpfs", "ramfs"):
            raise Refused(f"minio.data_dir {assembly.config.minio.data_dir} would be in memory ({folder} is a tmpfs)", "name a folder on a disk")


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
