"""Artifacts: what is in the bucket against what was copied before, in one pass over both, without holding either in memory."""

from __future__ import annotations

import gzip
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlflow_onprem.backup.repository import CHUNK, Counted, Repository, pieces, pool_name
from mlflow_onprem.backup.s3 import WORKERS, explained, is_gone

if TYPE_CHECKING:
    from minio import Minio

T = TypeVar("T")
#: Transfers begun before the first of them is done.
AHEAD = WORKERS * 4


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


@dataclass(frozen=True)
class Bucket:
    """The stack's bucket, for reading and writing much."""

    client: Minio
    name: str

    def list(self) -> Iterator[Entry]:
        """Every object, in the store's order, which is that of the keys."""
        with explained(f"bucket {self.name}"):
            for each in self.client.list_objects(self.name, recursive=True):
                modified = each.last_modified.isoformat() if each.last_modified else ""
                yield Entry(each.object_name or "", each.etag or "", each.size or 0, modified, each.version_id or "")

    def copy_to(self, repository: Repository, entry: Entry, on_bytes: Callable[[int], None]) -> Entry | None:
        """Put the object's content into the pool; None where the object is gone."""
        from minio.error import S3Error

        with explained(f"bucket {self.name}"):
            try:
                answer: Any = self.client.get_object(self.name, entry.key)
            except S3Error as failed:
                if is_gone(failed):
                    return None
                raise
            try:
                headers = answer.headers
                size = int(headers.get("Content-Length", entry.size))
                sha256 = repository.store(Counted(pieces(answer.stream(CHUNK, decode_content=False)), on_bytes), size)
            finally:
                answer.close()
                answer.release_conn()
        etag = headers.get("ETag", entry.etag).strip('"')
        # Overwritten since it was listed: the time of the listing goes with the old content, so the next backup looks again.
        modified = entry.modified if etag == entry.etag else ""
        encoding = headers.get("Content-Encoding", "")
        return replace(entry, etag=etag, size=size, modified=modified, sha256=sha256, type=headers.get("Content-Type", ""), encoding=encoding)

    def copy_from(self, repository: Repository, entry: Entry, on_bytes: Callable[[int], None]) -> None:
        """Put content of the pool into the bucket."""
        source: Any = Counted(pieces(repository.open(pool_name(entry.sha256))), on_bytes)
        metadata: dict[str, Any] | None = {"Content-Encoding": entry.encoding} if entry.encoding else None
        part = max(16 << 20, -(-entry.size // 9_000))
        with explained(f"bucket {self.name}"):
            self.client.put_object(
                self.name, entry.key, source, entry.size, entry.type or "application/octet-stream", metadata, part_size=part, num_parallel_uploads=1
            )


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

    for entry in in_order(pair(listed, known), lambda both: settle(*both), lambda both: needs_copy(*both, damaged)):
        if entry is not None:
            tally.count += 1
            tally.bytes += entry.size
            yield entry


def needs_copy(new: Entry | None, old: Entry | None, damaged: frozenset[str] = frozenset()) -> bool:
    """Whether a pass has to read the object."""
    return new is not None and not (old is not None and old.sha256 not in damaged and old.same_object(new))


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
