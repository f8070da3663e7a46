"""Artifacts: what is in the bucket against what was copied before, in one pass over both, without holding either in memory."""

from __future__ import annotations

import gzip
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlflow_onprem.backup.s3 import WORKERS
from mlflow_onprem.clients import store_disk

T = TypeVar("T")
#: Transfers begun before the first of them is done.
AHEAD = WORKERS * 4
EXAMPLES = 20


@dataclass(frozen=True)
class Entry:
    """One object: what the store says of it, and, once copied, its content's sha256 and type. `size` is in bytes."""

    key: str
    etag: str
    size: int
    modified: str
    version: str = ""
    sha256: str = ""
    type: str = ""
    encoding: str = ""

    def same_object(self, other: Entry) -> bool:
        """Whether the store still holds what was copied."""
        return (self.key, self.etag, self.size, self.modified, self.version) == (other.key, other.etag, other.size, other.modified, other.version)


@dataclass
class Tally:
    """What a pass did; `vanished` are keys that were listed and gone before they could be copied."""

    count: int = 0
    bytes: int = 0
    new_count: int = 0
    new_bytes: int = 0
    vanished: list[str] = field(default_factory=list)
    #: Objects beside a folder of their name, or below such a one: how many are below, and a few of them with what hides them.
    beside: int = 0
    hidden: list[tuple[str, str]] = field(default_factory=list)


def write_index(path: Path, entries: Iterable[Entry]) -> None:
    """One line of JSON an object, compressed."""
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as file:
        for entry in entries:
            file.write(json.dumps({name: value for name, value in asdict(entry).items() if value != ""}, separators=(",", ":")) + "\n")


def read_index(path: Path) -> Iterator[Entry]:
    """The objects of an index."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield Entry(**json.loads(line))


def pair(listed: Iterable[Entry], known: Iterable[Entry]) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Both lists side by side, by key. Where one is out of order its objects come unpaired, which costs a copy and nothing else."""
    rest = iter(known)
    old = next(rest, None)
    for new in listed:
        while old is not None and old.key < new.key:
            yield None, old
            old = next(rest, None)
        if old is not None and old.key == new.key:
            yield new, old
            old = next(rest, None)
        else:
            yield new, None
    while old is not None:
        yield None, old
        old = next(rest, None)


def sweep(
    listed: Iterable[Entry],
    known: Iterable[Entry],
    copy: Callable[[Entry], Entry | None],
    tally: Tally,
    *,
    keep_missing: bool,
    damaged: frozenset[str] = frozenset(),
) -> Iterator[Entry]:
    """The index of what is listed: known objects as they were copied before, all others copied now.

    `keep_missing` keeps what is known and no longer listed. Content in `damaged` (sha256) is copied again.
    """

    def settle(new: Entry | None, old: Entry | None) -> Entry | None:
        usable = old is not None and old.sha256 not in damaged
        if new is None:
            return old if keep_missing and usable else None
        if old is not None and usable and old.same_object(new):
            return old
        copied = copy(new)
        if copied is not None:
            tally.new_count += 1
            tally.new_bytes += copied.size
            return copied
        if keep_missing and usable:
            return old
        tally.vanished.append(new.key)
        return None

    above = store_disk.Above()
    for entry in in_order(pair(listed, known), lambda both: settle(*both), lambda both: needs_copy(*both, damaged)):
        if entry is not None:
            tally.count += 1
            tally.bytes += entry.size
            if hiders := above.over(entry.key):
                tally.beside += 1
                tally.hidden += [(hiders[0], entry.key)] if len(tally.hidden) < EXAMPLES else []
            above.add(entry.key)
            yield entry


def needs_copy(new: Entry | None, old: Entry | None, damaged: frozenset[str] = frozenset()) -> bool:
    """Whether a pass has to read the object."""
    return new is not None and not (old is not None and old.sha256 not in damaged and old.same_object(new))


def strangers(pairs: Iterable[tuple[Entry | None, Entry | None]]) -> Iterator[str]:
    """Of (wanted, there) in order: keys that are there, are not wanted, and stand in the place of a wanted one's folder, or below a wanted one.

    A store would hide one of the two. A key may come more than once.
    """
    above, ours = store_disk.Above(), set[str]()
    for wanted, there in pairs:
        entry = wanted or there
        assert entry is not None
        over = above.over(entry.key)
        if wanted is not None:
            yield from (each for each in over if each not in ours)
            ours.add(entry.key)
        elif any(each in ours for each in over):
            yield entry.key
        above.add(entry.key)


def in_order(items: Iterable[T], work: Callable[[T], Any], is_slow: Callable[[T], bool]) -> Iterator[Any]:
    """`work` on every item, slow ones side by side, a bounded number ahead; results in the items' order. The first failure ends it."""
    waiting: deque[Future[Any] | tuple[Any]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item) if is_slow(item) else (work(item),))
                while len(waiting) > AHEAD or (waiting and isinstance(waiting[0], tuple)):
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _result(done: Future[Any] | tuple[Any]) -> Any:
    return done[0] if isinstance(done, tuple) else done.result()
