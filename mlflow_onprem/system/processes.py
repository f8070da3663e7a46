"""Processes that hold a port: how to make them let go, with those above and below them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable

from mlflow_onprem.core import wait
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.system.ports import pids

PATIENCE = 30.0  # seconds between asking and killing


def end(host: Host, members: Iterable[int], same: Callable[[int], bool]) -> None:
    """Ask these processes, those above them for which `same` holds, and all below to end; kill what is still there after half a minute."""
    ending = sorted(family(_parents(host), set(members), same))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in ending:
            host.run(["kill", f"-{number.value}", str(pid)], ok=(0, 1))
        if wait.until(lambda: not _running(host, ending), PATIENCE, every=0.1):
            return
    left = next(iter(_running(host, ending)), ending[0])
    raise OnPremError(f"process {left} does not end", f"end it by hand (kill -9 {left}), then run this again")


def _running(host: Host, pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if _runs(host, pid)]


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
    stats = {pid: (host.read(f"/proc/{pid}/stat") or b"").decode(errors="replace") for pid in pids(host)}
    # The name in parentheses may hold anything, so it counts from the last one.
    return {pid: int(text.rpartition(")")[2].split()[1]) for pid, text in stats.items() if text}


def _runs(host: Host, pid: int) -> bool:
    text = (host.read(f"/proc/{pid}/stat") or b"").decode(errors="replace")
    return bool(text) and text.rpartition(")")[2].split()[0] != "Z"
