"""Worker processes replaced one by one, each new one serving before an old one goes: so secrets in files are taken up and no request is lost."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.system.systemd import Systemd, journal_tail

#: Seconds for all workers. One may take a minute to serve and, before it goes, a minute to end a long upload.
DEADLINE = 900.0


@dataclass(frozen=True)
class Workers:
    """What the service says on systemd's status line."""

    failed_reloads: int
    pids: tuple[int, ...]


def parse_status(text: str) -> Workers:
    """The status line of mlflow.service (server/supervisor.py); no workers where it is another one."""
    match = re.search(r"failed_reloads=(\d+) workers=([\d,]+)", text)
    return Workers(int(match[1]), tuple(int(pid) for pid in match[2].split(",") if pid)) if match else Workers(0, ())


def replace_workers(host: Host, systemd: Systemd, unit: str, deadline: float = DEADLINE) -> None:
    """Ask for it and wait until every worker is one that was started after the question, and so read the files as they are now.

    Raises OnPremError where new workers do not start (the old ones serve on then) or `deadline` seconds are over.
    """
    asked = parse_uptime((host.read("/proc/uptime") or b"").decode())
    systemd.forget()
    failed = parse_status(systemd.status(unit).text).failed_reloads
    systemd.act("reload", unit)
    end = time.monotonic() + deadline
    while True:
        systemd.forget()
        status = systemd.status(unit)
        workers = parse_status(status.text)
        started = [parse_start((host.read(f"/proc/{pid}/stat") or b"").decode(errors="replace")) for pid in workers.pids]
        if status.active == "active" and started and all(each is not None and each > asked for each in started):
            return
        if workers.failed_reloads > failed:
            raise _kept(host, unit, "new workers did not start; the old ones serve on with the old secrets")
        if not status.running and status.active != "activating":
            raise _kept(host, unit, f"it is {status.active}")
        if time.monotonic() > end:
            raise _kept(host, unit, f"not all workers were replaced within {deadline:.0f} s")
        time.sleep(0.1)


def parse_uptime(text: str) -> float:
    """Seconds since boot from /proc/uptime."""
    return float(text.split(maxsplit=1)[0]) if text.strip() else 0.0


def parse_start(text: str, ticks: int = 100) -> float | None:
    """When a process started, in seconds since boot, from /proc/PID/stat; None where there is none. Linux counts 100 ticks a second there."""
    fields = text.rpartition(")")[2].split()
    return int(fields[19]) / ticks if len(fields) > 19 else None


def _kept(host: Host, unit: str, why: str) -> OnPremError:
    return OnPremError(
        f"the workers of {unit} could not be replaced: {why}", "see why: mlflow-onprem logs mlflow; then run this again", journal_tail(host, unit)
    )
