"""Who holds a port, and how to make them let go. Read from /proc, so no tool is needed for it."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mlflow_onprem.errors import OnPremError
from mlflow_onprem.host import Host

LISTEN = "0A"
PATIENCE = 30.0  # seconds between asking and killing


@dataclass(frozen=True)
class Held:
    """One process that listens on a port: its command line's words, its account, its unit (empty: none, a terminal's)."""

    pid: int
    command: str
    user: str
    unit: str


def holders(host: Host, port: int) -> list[Held]:
    """Everybody who listens there."""
    sockets = {f"socket:[{inode}]" for name in ("tcp", "tcp6") for inode in parse_inodes((host.read(f"/proc/net/{name}") or b"").decode(), port)}
    return [describe(host, pid) for pid in all_pids(host) if sockets and sockets & _links(host, pid)]


def parse_inodes(text: str, port: int) -> list[str]:
    """Inodes of sockets that listen on a port, from /proc/net/tcp or tcp6."""
    rows = (line.split() for line in text.splitlines()[1:])
    return [row[9] for row in rows if len(row) > 9 and row[3] == LISTEN and int(row[1].rpartition(":")[2], 16) == port]


def describe(host: Host, pid: int) -> Held:
    """One process."""
    command = (host.read(f"/proc/{pid}/cmdline") or b"").replace(b"\0", b" ").decode(errors="replace").strip()
    found = host.stat(f"/proc/{pid}")
    units = re.findall(r"([^/\n]+\.(?:service|scope))", (host.read(f"/proc/{pid}/cgroup") or b"").decode())
    return Held(pid, command, found.owner if found is not None else "", units[-1] if units else "")


def end(host: Host, members: Iterable[int], same: Callable[[int], bool]) -> None:
    """Ask these processes, those above them for which `same` holds, and all below to end; kill what is still there after half a minute."""
    pids = sorted(family(_parents(host), set(members), same))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            host.run(["kill", f"-{number.value}", str(pid)], ok=(0, 1))
        deadline = time.monotonic() + PATIENCE
        while alive := [pid for pid in pids if _runs(host, pid)]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if not alive:
            return
    raise OnPremError(f"process {alive[0]} does not end", f"end it by hand (kill -9 {alive[0]}), then run this again")


def family(parents: dict[int, int], members: set[int], same: object) -> set[int]:
    """These processes, their ancestors as far as `same` holds for them, and the descendants of all."""
    assert callable(same)
    found = set(members)
    for each in members:
        above = parents.get(each, 0)
        while above > 1 and same(above):
            found.add(above)
            above = parents.get(above, 0)
    grown = True
    while grown:
        below = {pid for pid, parent in parents.items() if parent in found}
        grown = not below <= found
        found |= below
    return found


def _parents(host: Host) -> dict[int, int]:
    stats = {pid: (host.read(f"/proc/{pid}/stat") or b"").decode(errors="replace") for pid in all_pids(host)}
    # The name in parentheses may hold anything, so it counts from the last one.
    return {pid: int(text.rpartition(")")[2].split()[1]) for pid, text in stats.items() if text}


def _runs(host: Host, pid: int) -> bool:
    text = (host.read(f"/proc/{pid}/stat") or b"").decode(errors="replace")
    return bool(text) and text.rpartition(")")[2].split()[0] != "Z"


def all_pids(host: Host) -> list[int]:
    """Every process."""
    return [int(name) for name in host.listdir("/proc") if name.isdigit()]


def _links(host: Host, pid: int) -> set[str]:
    try:
        folder = host.local(f"/proc/{pid}/fd")
        return {os.readlink(each) for each in folder.iterdir()}
    except OSError:  # it ended meanwhile, or is not ours to look at
        return set()
