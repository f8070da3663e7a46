"""What this stack does by itself, by systemd's timers: backups, rotations, removing for good what users deleted."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_onprem.core.resource import Mode, Resource, Text
from mlflow_onprem.resources.files import Directory, DirectoryState, File, FileState
from mlflow_onprem.resources.services import Service, ServiceState, digest
from mlflow_onprem.settings.config import Config
from mlflow_onprem.system.package_data import read
from mlflow_onprem.system.systemd import Systemd

UNITS = "/etc/systemd/system"
BACKUP, ROTATION, GC = "mlflow-onprem-backup", "mlflow-onprem-rotate", "mlflow-onprem-gc"
TIMERS = tuple(f"{name}.timer" for name in (ROTATION, GC, BACKUP))
#: In the small hours, each on a day of its own kind; the timer adds up to an hour.
CALENDAR = {"daily": "*-*-* 04:30:00", "weekly": "Sun *-*-* 04:30:00", "monthly": "*-*-01 04:30:00"}


def resources(config: Config, systemd: Systemd) -> tuple[Resource, ...]:
    """All of them; those that the configuration does not ask for absent."""
    return (*rotation(config, systemd), *garbage(config, systemd), *backup(config, systemd))


def rotation(config: Config, systemd: Systemd) -> tuple[Resource, ...]:
    """`[rotation] every`. It asks once a day and the command decides by the secrets' dates: a host that was off on the day catches up."""
    return timer(ROTATION, systemd, {}, wanted=config.rotation.every is not None)


def garbage(config: Config, systemd: Systemd) -> tuple[Resource, ...]:
    """`[gc] every`."""
    every = config.gc.every
    text = f"# Written by mlflow-onprem from [gc] of config.toml.\n[Timer]\nOnCalendar={CALENDAR.get(every or '')}\n"
    return timer(GC, systemd, {f"{GC}.timer": text}, wanted=every is not None)


def backup(config: Config, systemd: Systemd) -> tuple[Resource, ...]:
    """`[backup] schedule`, and the folder that backups go to."""
    to, schedule = config.backup.to, config.backup.schedule
    # A disk that is not there must not turn into a backup on the disk below it.
    here = f"# Written by mlflow-onprem.\n[Unit]\nRequiresMountsFor={to}\n[Service]\nReadWritePaths={to}\n"
    drop_ins = {
        f"{BACKUP}.service": "# Written by mlflow-onprem: backups leave this host.\n" if to.startswith("s3://") else here,
        f"{BACKUP}.timer": f"# Written by mlflow-onprem.\n[Timer]\nOnCalendar=\nOnCalendar={schedule}\n",
    }
    in_folder = schedule is not None and not to.startswith("s3://")
    folder = (Directory(to, DirectoryState(Mode(0o700), "root", "root"), holds_data=True),) if in_folder else ()
    return (*folder, *timer(BACKUP, systemd, drop_ins, wanted=schedule is not None))


def timer(name: str, systemd: Systemd, drop_ins: Mapping[str, str], *, wanted: bool) -> tuple[Resource, ...]:
    """A service and its timer, a drop-in for those units that need one, and the timer's state; or all of it absent, the timer stopped first."""
    units = (f"{name}.service", f"{name}.timer")
    folders = tuple(f"{UNITS}/{unit}.d" for unit in units if unit in drop_ins)
    texts = {
        **{f"{UNITS}/{unit}": read(f"units/{unit}") for unit in units},
        **{f"{UNITS}/{unit}.d/mlflow-onprem.conf": drop_ins[unit] for unit in units if unit in drop_ins},
    }
    if not wanted:
        gone: tuple[Resource, ...] = (*(File(path, None) for path in texts), *(Directory(folder, None) for folder in folders))
        return (Service(units[1], None, systemd), *gone)
    files = tuple(File(path, FileState(Text(text), Mode(0o644), "root", "root")) for path, text in texts.items())
    state = ServiceState(enabled=True, active=True, inputs=digest(files))
    return (
        *(Directory(folder, DirectoryState(Mode(0o755), "root", "root")) for folder in folders),
        *files,
        Service(units[1], state, systemd, paths=tuple(texts)),
    )
