"""The logs as they are written: the journal followed by journalctl, PostgreSQL's file by looking at it twice a second."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.logs.read import Line, Sources, journal_command, parse_journal, parse_postgres, read
from mlflow_onprem.system.local_host import LocalHost

WAIT = 0.5  # seconds that lines are collected in, to put them in order


def follow(host: LocalHost, where: Sources, *, since: float | None, count: int | None) -> Iterator[list[Line]]:
    """Batches in order of time: first what is there, then what comes, until the caller stops. Raises OnPremError where the journal ends."""
    tail = Tail(host.local(where.files[0]), where) if where.files else None
    cursor = _cursor(host)
    first = read(host, where, since=since, count=count)
    yield first
    seen = set(first[-1000:])
    child = host.spawn(journal_command(where.units, "--follow", "--no-tail", *([f"--after-cursor={cursor}"] if cursor else [])), with_input=False)
    assert child.stdout is not None
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_pump, args=(child.stdout, lines), daemon=True)
    reader.start()
    try:
        while True:
            texts, open_still = _collect(lines)
            came = [line for text in texts if (line := parse_journal(text, where.units))]
            came = [line for line in (*came, *(tail.news() if tail else [])) if line not in seen]
            if came:
                yield sorted(came, key=lambda line: line.time)
            if not open_still:
                raise OnPremError("journalctl ended", "run it again")
    finally:
        child.terminate()
        child.wait(timeout=10)


class Tail:
    """What is added to a file from now on; a file that was rotated or cut is read from its beginning."""

    def __init__(self, path: Path, where: Sources) -> None:
        self._path = path
        self._zone = where.zone
        self._at = self._identity()
        self._rest = ""
        self._last: Line | None = None

    def news(self) -> list[Line]:
        """Entries that were finished since the last call; a later line of one comes as an entry of its time."""
        inode, size = self._identity()
        position = self._at[1] if inode == self._at[0] and size >= self._at[1] else 0
        if size == position:
            return []
        with self._path.open("rb") as file:
            file.seek(position)
            text = self._rest + file.read(size - position).decode(errors="replace")
        self._at = (inode, size)
        whole, newline, self._rest = text.rpartition("\n")
        found: list[Line] = []
        for raw in whole.split("\n") if newline else []:
            entry = next(parse_postgres([raw], self._zone), None)
            if entry is None and self._last is not None:
                entry = Line(self._last.time, self._last.service, self._last.level, raw)
            if entry is not None:
                found.append(entry)
                self._last = entry
        return found

    def _identity(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_size


def _pump(stream: Iterable[str], lines: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _collect(lines: queue.SimpleQueue[str | None]) -> tuple[list[str], bool]:
    """What came within WAIT seconds, and whether more can come."""
    found: list[str] = []
    end = time.monotonic() + WAIT
    while (left := end - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=left)
        except queue.Empty:
            break
        if line is None:
            return found, False
        found.append(line)
    return found, True


def _cursor(host: LocalHost) -> str:
    """Where the journal is now, so that nothing between reading and following is lost."""
    text = host.run(["journalctl", "--quiet", "--no-pager", "--output=json", "--lines=1"]).out.strip()
    return str(json.loads(text).get("__CURSOR", "")) if text else ""
