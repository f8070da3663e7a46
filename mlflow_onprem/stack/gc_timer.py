"""The timer that removes for good what users deleted, where `[gc] every` asks for it."""

from __future__ import annotations

from mlflow_onprem.core.resource import Mode, Resource, Text
from mlflow_onprem.resources.files import Directory, DirectoryState, File, FileState
from mlflow_onprem.resources.services import Service, ServiceState, digest
from mlflow_onprem.settings.config import Config
from mlflow_onprem.system.package_data import read
from mlflow_onprem.system.systemd import Systemd

UNITS = "/etc/systemd/system"
NAME = "mlflow-onprem-gc"
TIMER = f"{NAME}.timer"
DROP_IN = f"{UNITS}/{TIMER}.d"
#: In the small hours, each on a day of its own kind; the timer adds up to an hour.
CALENDAR = {"daily": "*-*-* 04:30:00", "weekly": "Sun *-*-* 04:30:00", "monthly": "*-*-01 04:30:00"}


def resources(config: Config, systemd: Systemd) -> tuple[Resource, ...]:
    """Both units, when they run, and the timer's state; without the setting all of them absent, the timer stopped before its files go."""
    names = (f"{NAME}.service", TIMER)
    files = tuple(File(f"{UNITS}/{name}", FileState(Text(read(f"units/{name}")), Mode(0o644), "root", "root")) for name in names)
    if config.gc.every is None:
        return (Service(TIMER, None, systemd), Directory(DROP_IN, None), *(File(file.path, None) for file in files))
    text = f"# Written by mlflow-onprem from [gc] of config.toml.\n[Timer]\nOnCalendar={CALENDAR[config.gc.every]}\n"
    files = (*files, File(f"{DROP_IN}/mlflow-onprem.conf", FileState(Text(text), Mode(0o644), "root", "root")))
    timer = Service(TIMER, ServiceState(enabled=True, active=True, inputs=digest(files)), systemd, paths=tuple(file.path for file in files))
    return (Directory(DROP_IN, DirectoryState(Mode(0o755), "root", "root")), *files, timer)
