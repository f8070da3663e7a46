"""The timer that makes backups by itself, where `[backup] schedule` asks for it."""

from __future__ import annotations

from mlflow_onprem.core.resource import Mode, Resource, Text
from mlflow_onprem.resources.files import Directory, DirectoryState, File, FileState
from mlflow_onprem.resources.services import Service, ServiceState, digest
from mlflow_onprem.settings.config import Config
from mlflow_onprem.system.package_data import read
from mlflow_onprem.system.systemd import Systemd

UNITS = "/etc/systemd/system"
SERVICE = "mlflow-onprem-backup.service"
TIMER = "mlflow-onprem-backup.timer"


def resources(config: Config, systemd: Systemd) -> tuple[Resource, ...]:
    """Both units, a drop-in for each, the folder, and the timer's state; without a schedule all but the folder absent."""
    settings = config.backup
    wanted = settings.schedule is not None
    texts = {
        f"{UNITS}/{SERVICE}": read(f"units/{SERVICE}"),
        f"{UNITS}/{TIMER}": read(f"units/{TIMER}"),
        f"{UNITS}/{SERVICE}.d/mlflow-onprem.conf": _service_drop_in(settings.to),
        f"{UNITS}/{TIMER}.d/mlflow-onprem.conf": f"# Written by mlflow-onprem.\n[Timer]\nOnCalendar=\nOnCalendar={settings.schedule}\n",
    }
    if not wanted:
        files = tuple(File(path, None) for path in texts)
        return (Service(TIMER, None, systemd), *files, *(Directory(f"{UNITS}/{unit}.d", None) for unit in (SERVICE, TIMER)))
    files = tuple(File(path, FileState(Text(text), Mode(0o644), "root", "root")) for path, text in texts.items())
    folder = () if settings.to.startswith("s3://") else (Directory(settings.to, DirectoryState(Mode(0o700), "root", "root"), holds_data=True),)
    timer = Service(TIMER, ServiceState(enabled=True, active=True, inputs=digest(files)), systemd, paths=tuple(file.path for file in files))
    return (*folder, *(Directory(f"{UNITS}/{unit}.d", DirectoryState(Mode(0o755), "root", "root")) for unit in (SERVICE, TIMER)), *files, timer)


def _service_drop_in(to: str) -> str:
    if to.startswith("s3://"):
        return "# Written by mlflow-onprem: backups leave this host.\n"
    # A disk that is not there must not turn into a backup on the disk below it.
    return f"# Written by mlflow-onprem.\n[Unit]\nRequiresMountsFor={to}\n[Service]\nReadWritePaths={to}\n"
