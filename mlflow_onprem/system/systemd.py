"""systemd's view of our units: asked once for all of them, asked again after anything was done to one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mlflow_onprem.core.errors import CommandFailed
from mlflow_onprem.core.host import Host
from mlflow_onprem.system.exit_status import Explained, explain

AGAIN = 1.0  # seconds in which a unit that is started over and over says why
PROPERTIES = (
    "Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload", "MainPID", "InvocationID",
    "ExecMainStartTimestamp", "ActiveEnterTimestamp", "Result", "NRestarts", "ExecMainStatus", "StatusText",
    "AssertResult", "AssertTimestampMonotonic", "DropInPaths",
)  # fmt: skip

#: How a service of Type=notify ends that runs without a word, or ends before it.
NEVER_READY = ("timeout", "protocol")


@dataclass(frozen=True)
class UnitStatus:
    """What `systemctl show` says of one unit.

    `started` is in seconds since the epoch, 0 where it never started; `text` is what it says of itself;
    `exit_status` is how its main process ended last, 0 where it runs.
    """

    load: str
    active: str
    sub: str
    file: str
    needs_reload: bool
    main_pid: int
    invocation: str
    started: float
    result: str
    restarts: int
    text: str = ""
    #: An assertion of the unit did not hold when it was last to be started.
    refused_to_start: bool = False
    exit_status: int = 0
    #: The drop-ins that systemd has read; None where it was not asked.
    drop_ins: tuple[str, ...] | None = None

    @property
    def running(self) -> bool:
        """It serves, perhaps while it replaces its workers."""
        return self.active in ("active", "reloading")


class Systemd:
    """One `systemctl show` for all units until something is done to one of them, or a file (perhaps a unit) was written."""

    def __init__(self, host: Host, units: tuple[str, ...]) -> None:
        self._host = self.host = host
        self._units = units
        self._seen: Mapping[str, UnitStatus] | None = None
        self._writes = 0
        self._lock = threading.Lock()

    def status(self, unit: str) -> UnitStatus:
        """The state of a unit, from the last look at all of them."""
        with self._lock:
            if unit not in self._units:
                self._units, self._seen = (*self._units, unit), None
            if self._seen is None or self._writes != self._host.writes:
                self._writes = self._host.writes
                # systemd of Ubuntu 22.04 (249) does not know --timestamp=unix yet.
                argv = ["systemctl", "show", "--timestamp=utc", f"--property={','.join(PROPERTIES)}", *self._units]
                seen = parse_show(self._host.run(argv).out, self._units)
                self._seen = {unit: replace(found, needs_reload=found.needs_reload or self._unread(unit, found)) for unit, found in seen.items()}
            return self._seen[unit]

    def _unread(self, unit: str, found: UnitStatus) -> bool:
        """Whether a drop-in is there that systemd has not read: of a new folder it says so only after it came to load some other unit."""
        folder = f"/etc/systemd/system/{unit}.d"
        names = self._host.listdir(folder) if found.drop_ins is not None and found.load == "loaded" else []
        return any(name.endswith(".conf") and f"{folder}/{name}" not in (found.drop_ins or ()) for name in names)

    def forget(self) -> None:
        """Look again at the next question."""
        with self._lock:
            self._seen = None

    def why_not_started(self, unit: str) -> Explained | None:
        """Where systemd did not get as far as the unit's program: which step failed and the way out."""
        end = time.monotonic() + AGAIN
        while True:
            status = self.status(unit)
            reason = explain(self._host, unit, status.exit_status) if status.result == "exit-code" and not status.running else None
            # While it tries once more, systemd has forgotten how the last time ended: a moment later it knows again.
            if reason is not None or status.active != "activating" or not status.restarts or time.monotonic() > end:
                return reason
            time.sleep(0.1)
            self.forget()

    def act(self, *argv: str, timeout: float = 180) -> None:
        """Do something to units; a unit that does not come up brings the last lines of its journal along. Raises CommandFailed."""
        try:
            self._host.run(["systemctl", *argv], timeout=timeout)
        except CommandFailed as failed:
            unit = argv[-1]
            if argv[0] in ("start", "restart", "reload"):
                failed.output = journal_tail(self._host, unit) or failed.output
                self.forget()
                if self.status(unit).result in NEVER_READY:
                    failed.message += ": its program never said that it is ready (READY=1 of systemd's notify protocol)"
            failed.hint = f"see all of it with `journalctl -u {unit}`, fix the cause above, then run this again"
            self.forget()
            reason = self.why_not_started(unit) if argv[0] in ("start", "restart") else None
            if reason is not None:
                failed.message = f"{unit} does not start: {reason.what} ({reason.name})"
                failed.hint = reason.fix
            raise
        finally:
            self.forget()


def parse_show(text: str, units: tuple[str, ...]) -> dict[str, UnitStatus]:
    """The blocks of `systemctl show`, in the order in which the units were named (an alias answers with another Id)."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.strip("\n").split("\n\n")]
    return {unit: _unit_status(block) for unit, block in zip(units, blocks, strict=True)}


def _unit_status(block: Mapping[str, str]) -> UnitStatus:
    started = block.get("ExecMainStartTimestamp") or block.get("ActiveEnterTimestamp") or ""
    return UnitStatus(
        load=block.get("LoadState", ""),
        active=block.get("ActiveState", ""),
        sub=block.get("SubState", ""),
        file=block.get("UnitFileState", ""),
        needs_reload=block.get("NeedDaemonReload") == "yes",
        main_pid=int(block.get("MainPID") or 0),
        invocation=block.get("InvocationID", ""),
        started=parse_timestamp(started),
        result=block.get("Result", ""),
        restarts=int(block.get("NRestarts") or 0),
        text=block.get("StatusText", ""),
        refused_to_start=block.get("AssertResult") == "no" and int(block.get("AssertTimestampMonotonic") or 0) > 0,
        exit_status=int(block.get("ExecMainStatus") or 0),
        drop_ins=tuple(block["DropInPaths"].split()) if "DropInPaths" in block else None,
    )


def parse_timestamp(text: str) -> float:
    """Seconds since the epoch from `Mon 2026-11-23 22:12:36 UTC`; 0 where there is none (n/a)."""
    words = text.split()
    return datetime.fromisoformat(f"{words[1]}T{words[2]}+00:00").timestamp() if len(words) == 4 else 0.0


def journal_tail(host: Host, unit: str, lines: int = 20) -> str:
    """The last lines a unit wrote, without systemd's own chatter where there is enough of the rest."""
    try:
        return host.run(["journalctl", "-u", unit, "-n", str(lines), "--no-pager", "-o", "cat"]).out.strip()
    except CommandFailed:
        return ""
