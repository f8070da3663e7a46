"""A program that we started and everything it started itself: whether it still gets anywhere, whom it waits for, and how all of it is ended."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Fewer bytes than this, read and written by all of them together, are programs waking each other, not a download.
NOISE = 4096
#: Processor time counts as progress from this share of one core on: a build computes, a program that waits does not.
BUSY = 0.05
#: How long a program may take to end by itself once it was asked to, in seconds.
GRACE = 10.0
_ESTABLISHED, _SYN_SENT = "01", "02"


@dataclass(frozen=True)
class Work:
    """What a set of processes has done so far: bytes read and written, seconds of processor time, and which processes there are."""

    moved: int
    computed: float
    processes: frozenset[int]


def family(pid: int) -> dict[int, str]:
    """That process, its descendants, and whatever else is in the session it leads: pid -> when it started, in the kernel's ticks."""
    rows = dict(_rows())
    found = {pid} | {each for each, (_, session, _, _) in rows.items() if session == pid}
    while more := {each for each, (parent, *_) in rows.items() if parent in found} - found:
        found |= more
    return {each: rows[each][2] for each in found if each in rows}


def work(pids: Iterable[int]) -> Work:
    """What these processes have done, read from /proc; one that has ended counts no more."""
    rows, moved, computed, here = dict(_rows()), 0, 0.0, set()
    for pid in pids:
        if pid not in rows:
            continue
        here.add(pid)
        computed += rows[pid][3] / os.sysconf("SC_CLK_TCK")
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/io").read_text()
            moved += sum(int(count) for count in re.findall(r"^[rw]char: (\d+)$", text, re.MULTILINE))
    return Work(moved, computed, frozenset(here))


class StoodStill(subprocess.TimeoutExpired):
    """A watched program got nothing done for `timeout` seconds."""


class Watch:
    """Tells when a program, all its children included, has got nothing done for `seconds`: no output, no bytes, no processor time, no new process."""

    def __init__(self, pid: int, seconds: float) -> None:
        self.pause = min(5.0, seconds / 8)
        self._pid, self._seconds = pid, seconds
        self._last, self._said, self._since = work(family(pid)), 0, time.monotonic()

    def stalled(self, said: int) -> bool:
        """Look again; `said` is how many bytes of output there are by now."""
        now = work(family(self._pid))
        waited = time.monotonic() - self._since
        if (
            said != self._said
            or abs(now.moved - self._last.moved) >= NOISE
            or now.computed - self._last.computed >= max(BUSY * waited, 0.1)
            or now.processes != self._last.processes
        ):
            self._last, self._said, self._since = now, said, time.monotonic()
            return False
        return waited >= self._seconds


def talk(child: subprocess.Popen[str], text: str | None, timeout: float, stall: float | None) -> tuple[str, str]:
    """Feed a program and take what it says until it ends. Raises TimeoutExpired, StoodStill where it gets nothing done for `stall` seconds."""
    if stall is None:
        return child.communicate(text, timeout=timeout)
    watch, deadline = Watch(child.pid, stall), time.monotonic() + timeout
    while True:
        try:
            return child.communicate(text, timeout=watch.pause)
        except subprocess.TimeoutExpired as waiting:
            text = None  # communicate() goes on with what it was given first
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(child.args, timeout) from None
            if watch.stalled(len(waiting.output or b"") + len(waiting.stderr or b"")):
                raise StoodStill(child.args, stall) from None


def rest(child: subprocess.Popen[str]) -> str:
    """What a program that was ended had said; whoever still holds its pipes is not waited for."""
    try:
        return "".join(child.communicate(timeout=GRACE))
    except subprocess.TimeoutExpired as held:
        return b"".join(part if isinstance(part, bytes) else part.encode() for part in (held.output, held.stderr) if part).decode(errors="replace")


def peers(pids: Iterable[int]) -> tuple[str, ...]:
    """Who these processes are connected to, or try to connect to, over TCP: address:port."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            inodes |= {os.readlink(each).removeprefix("socket:[").rstrip("]") for each in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for pid in pids:
        for name in ("tcp", "tcp6"):
            with contextlib.suppress(OSError):
                for row in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
                    fields = row.split()
                    if fields[9] in inodes and fields[3] in (_ESTABLISHED, _SYN_SENT):
                        found.add(parse_address(fields[2]))
    return tuple(sorted(found))


def parse_address(text: str) -> str:
    """`0100007F:0050` of /proc/net/tcp (words in the machine's order) -> 127.0.0.1:80."""
    word, _, port = text.partition(":")
    raw = b"".join(bytes.fromhex(word[start : start + 8])[::-1] for start in range(0, len(word), 8))
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    shown = str(mapped or address)
    return f"[{shown}]:{int(port, 16)}" if ":" in shown else f"{shown}:{int(port, 16)}"


def end(child: subprocess.Popen[Any]) -> None:
    """End a program and everything it started, also what moved to a session of its own: asked first, killed after `GRACE` seconds."""
    everybody = family(child.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=GRACE)
    _signal_all(everybody, signal.SIGTERM)
    while (left := {**_alive(everybody), **_session(child.pid)}) and time.monotonic() < deadline:
        time.sleep(0.02)
    _signal_all(left, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=GRACE)


def _signal_all(pids: dict[int, str], number: signal.Signals) -> None:
    for pid in _alive(pids):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _alive(pids: dict[int, str]) -> dict[int, str]:
    """Those that still run and are the same: a number may have gone to another process meanwhile."""
    rows = dict(_rows())
    return {pid: started for pid, started in pids.items() if pid in rows and rows[pid][2] == started}


def _session(leader: int) -> dict[int, str]:
    return {pid: started for pid, (_, session, started, _) in _rows() if session == leader}


def _rows() -> Iterable[tuple[int, tuple[int, int, str, int]]]:
    """Every process that is not merely waiting to be reaped: parent, session, start, and processor time in ticks."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent, _, session, *rest = (entry / "stat").read_text().rpartition(")")[2].split()
                if state not in ("Z", "X"):
                    yield int(entry.name), (int(parent), int(session), rest[15], int(rest[7]) + int(rest[8]))
