"""Services. A restart follows from what a service runs on, not from what this run happened to change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlflow_onprem.host import Host
from mlflow_onprem.resource import Base
from mlflow_onprem.resources.files import File
from mlflow_onprem.secret import Secret
from mlflow_onprem.systemd import Systemd, UnitStatus

STAMPS = "/var/lib/mlflow-onprem/stamps"


@dataclass(frozen=True)
class ServiceState:
    """A service that starts at boot, runs now, and runs on its current inputs (`current`)."""

    enabled: bool
    active: bool
    inputs: str


@dataclass(frozen=True)
class Service(Base):
    """A unit, `boot_unit` the one that is enabled for it (itself, but for template instances), and what it reads at its start.

    The stamp is written after a successful start. It holds the digest of the inputs, so a run that died between writing a file and
    restarting the service is finished by the next one. A file put back after the service had started counts too: by its time.
    With `restarts` False a running service is never restarted here, systemd only reads its unit again.
    """

    unit: str
    want: ServiceState | None
    systemd: Systemd
    paths: tuple[str, ...] = ()
    boot_unit: str = ""
    restarts: bool = True

    @property
    def name(self) -> str:
        return f"service:{self.unit}"

    def observe(self, host: Host) -> ServiceState | None:
        status = self.systemd.status(self.unit)
        boot = self.systemd.status(self.boot_unit) if self.boot_unit else status
        if status.load == "not-found":
            return None
        enabled = boot.file.startswith("enabled") and status.load != "masked"
        if self.want is None:
            return None if status.active in ("inactive", "failed") and not enabled else ServiceState(enabled, status.active == "active", "")
        return ServiceState(enabled, status.active == "active", self._inputs(host, status))

    def _inputs(self, host: Host, status: UnitStatus) -> str:
        if status.needs_reload:
            return "the unit file changed since systemd read it"
        if not self.restarts:
            return "" if self.want is None else self.want.inputs
        for path in self.paths:
            found = host.stat(path)
            if found is not None and status.started and int(found.mtime) > status.started:
                return f"{path} was written after the service started"
        text = host.read(f"{STAMPS}/{self.unit}")
        if text is None:
            return "not started by us yet"
        try:
            return str(json.loads(text)["inputs"])
        except (ValueError, KeyError):
            return "stamp unreadable"

    def apply(self, host: Host, have: ServiceState | None) -> None:
        stamp = f"{STAMPS}/{self.unit}"
        if self.want is None:
            host.remove(stamp)
            self.systemd.act("disable", "--now", self.unit)
            return
        status = self.systemd.status(self.unit)
        if status.load == "masked":
            self.systemd.act("unmask", self.unit)
        if status.needs_reload or have is None:
            self.systemd.act("daemon-reload")
        if have is None or not have.enabled:
            self.systemd.act("enable", self.boot_unit or self.unit)
        if not self.restarts:
            if have is None or not have.active:
                self.systemd.act("start", self.unit)
        elif have is None or not have.active or have.inputs != self.want.inputs:
            host.remove(stamp)
            self.systemd.act("reset-failed", self.unit)
            self.systemd.act("restart", self.unit)
            host.write(stamp, (json.dumps({"inputs": self.want.inputs}) + "\n").encode(), mode=0o600, owner="root", group="root")


def digest(files: Iterable[File], versions: Sequence[str] = ()) -> str:
    """What a service runs on, as one short word: the content of its files and the versions of its programs."""
    total = hashlib.sha256()
    for file in files:
        assert file.want is not None
        content = file.want.content
        text = content.reveal() if isinstance(content, Secret) else content.value
        total.update(f"{file.path}\0{len(text)}\0{text}\0{file.want.mode}\0{file.want.owner}\0{file.want.group}\0".encode())
    for version in versions:
        total.update(f"{version}\0".encode())
    return total.hexdigest()[:16]
