"""Services. A restart follows from what a service runs on, not from what this run happened to change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow_onprem.core import wait
from mlflow_onprem.core.errors import CommandFailed
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.files import File
from mlflow_onprem.system import stopped
from mlflow_onprem.system.ports import strangers
from mlflow_onprem.system.systemd import Systemd, UnitStatus
from mlflow_onprem.system.workers import replace_workers

SETTLING = 15.0  # seconds, after which what comes next finds out by itself
STAMPS = "/var/lib/mlflow-onprem/stamps"


class Inputs(str):
    """A digest of what a service should run on; a plan shows it in words."""

    __slots__ = ()

    def __str__(self) -> str:
        return "its settings as they are now"


@dataclass(frozen=True)
class ServiceState:
    """A service that starts at boot, runs now, and runs on its current inputs; `rereads` are those a reload is enough for."""

    enabled: bool
    active: bool
    inputs: str
    rereads: str = ""


@dataclass(frozen=True)
class Service(Base):
    """A unit, `boot_unit` the one that is enabled for it (itself, but for template instances), and what it reads at its start.

    The stamp is written after a successful start. It holds the digest of the inputs, so a run that died between writing a file and
    restarting the service is finished by the next one. A file put back after the service had started counts too: by its time.
    With `restarts` False a running service is never restarted here, systemd only reads its unit again. Where only what it `rereads`
    has changed, its workers are replaced one by one (resources/workers.py) and no request is lost. What `settled` says before
    a restart it must say again after it: systemd's word that a service is ready may come a moment too early. On its `ports` nobody else answers.
    """

    unit: str
    want: ServiceState | None
    systemd: Systemd
    paths: tuple[str, ...] = ()
    boot_unit: str = ""
    restarts: bool = True
    reread_paths: tuple[str, ...] = ()
    settled: Callable[[], bool] | None = None
    ports: tuple[int, ...] = ()

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
            return None if status.active in ("inactive", "failed") and not enabled else ServiceState(enabled, status.running, "")
        return ServiceState(enabled, status.running, self._inputs(host, status), self._rereads(host, status))

    def _inputs(self, host: Host, status: UnitStatus) -> str:
        if status.needs_reload:
            return "a unit file that was changed since systemd read it"
        if not self.restarts:
            return "" if self.want is None else self.want.inputs
        for path in self.paths:
            found = host.stat(path)
            if found is not None and status.started and int(found.mtime) > status.started:
                return f"what stood there before {path} was written: it has not been restarted since"
        stamp = self._stamp(host)
        if stamp is None:
            return "what it was started with by somebody else"
        stamped = stamp.get("inputs", "")
        return stamped if self.want is not None and stamped == self.want.inputs else "older settings or an older program"

    def _rereads(self, host: Host, status: UnitStatus) -> str:
        if self.want is None or not self.want.rereads:
            return ""
        stamp = self._stamp(host) or {}
        read_at = float(stamp.get("reloaded", 0))
        for path in self.reread_paths:
            found = host.stat(path)
            # systemd tells a start to the second, a stamp is exact.
            if found is not None and int(found.mtime) > status.started and found.mtime > read_at:
                return f"what stood there before {path} was written: its workers have not been replaced since"
        return self.want.rereads if stamp.get("rereads") == self.want.rereads else "older secrets or rules"

    def _stamp(self, host: Host) -> dict[str, Any] | None:
        text = host.read(f"{STAMPS}/{self.unit}")
        try:
            return None if text is None else dict(json.loads(text))
        except (ValueError, TypeError):
            return {}

    def apply(self, host: Host, have: ServiceState | None) -> None:
        stamp = f"{STAMPS}/{self.unit}"
        if self.want is None:
            host.remove(stamp)
            self.systemd.act("disable", "--now", *([self.boot_unit] if self.boot_unit else []), self.unit)
            stopped.prove(host, self.unit, self.ports)
            return
        status = self.systemd.status(self.unit)
        if status.load == "masked":
            self.systemd.act("unmask", self.unit)
        restarting = self.restarts and (have is None or not have.active or have.inputs != self.want.inputs)
        # A unit file that was a link to /dev/null and is a file again: systemd holds on to the link until it looks again.
        # A folder of drop-ins that is new: it does not say that it has not seen it.
        if status.needs_reload or have is None or status.load == "masked" or restarting:
            self.systemd.act("daemon-reload")
        if have is None or not have.enabled:
            self.systemd.act("enable", self.boot_unit or self.unit)
        if not self.restarts:
            if have is None or not have.active:
                self.systemd.act("start", self.unit)
        elif restarting:
            host.remove(stamp)
            if self.systemd.status(self.unit).active == "failed":
                self.systemd.act("reset-failed", self.unit)
            held = self.settled is not None and have is not None and have.active and self.settled()
            self._restart(host)
            if held:
                self._settle()
            self._write_stamp(host, {"inputs": self.want.inputs, "rereads": self.want.rereads})
        elif have is not None and have.rereads != self.want.rereads:
            # Forgotten first: a run that dies here, or comes to want other secrets, leaves workers of which nobody knows what they read.
            self._write_stamp(host, {"inputs": self.want.inputs})
            found = host.stat(stamp)
            replace_workers(host, self.systemd, self.unit)
            self._write_stamp(host, {"inputs": self.want.inputs, "rereads": self.want.rereads, "reloaded": found.mtime if found is not None else 0.0})

    def _restart(self, host: Host) -> None:
        """What outlived the service is ended first; a start that fails because somebody else has its port names them."""
        status = self.systemd.status(self.unit)
        if self.ports and not status.running:
            if status.active not in ("inactive", "failed"):
                self.systemd.act("stop", self.unit)  # it is about to start itself again
            stopped.prove(host, self.unit, self.ports)
        try:
            self.systemd.act("restart", self.unit)
        except CommandFailed as failed:
            for port, each in strangers(host, self.ports, self.unit):
                failed.hint = (
                    f"port {port} is held by {each}: stop it, or give ours another port in /etc/mlflow-onprem/config.toml; then run this again"
                )
            raise

    def _settle(self) -> None:
        if self.settled is not None:
            wait.until(self.settled, SETTLING, every=0.1)

    def _write_stamp(self, host: Host, content: dict[str, Any]) -> None:
        host.write(f"{STAMPS}/{self.unit}", (json.dumps(content) + "\n").encode(), mode=0o600, owner="root", group="root")


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
    return Inputs(total.hexdigest()[:16])
