"""The timer that rotates by itself, where `[rotation] every` asks for it."""

from __future__ import annotations

from mlflow_onprem.core.resource import Mode, Resource, Text
from mlflow_onprem.resources.files import File, FileState
from mlflow_onprem.resources.services import Service, ServiceState, digest
from mlflow_onprem.settings.config import Config
from mlflow_onprem.system.package_data import read
from mlflow_onprem.system.systemd import Systemd

UNITS = "/etc/systemd/system"
NAME = "mlflow-onprem-rotate"
TIMER = f"{NAME}.timer"


def resources(config: Config, systemd: Systemd) -> tuple[Resource, ...]:
    """Both units and the timer's state; without the setting all of them absent, the timer stopped before its files go.

    The timer asks once a day and the command decides by the secrets' dates: a host that was off on the day catches up.
    """
    names = (f"{NAME}.service", TIMER)
    files = tuple(File(f"{UNITS}/{name}", FileState(Text(read(f"units/{name}")), Mode(0o644), "root", "root")) for name in names)
    if config.rotation.every is None:
        gone = tuple(File(file.path, None) for file in files)
        return (Service(TIMER, None, systemd), *gone)
    timer = Service(TIMER, ServiceState(enabled=True, active=True, inputs=digest(files)), systemd, paths=tuple(file.path for file in files))
    return (*files, timer)
