"""The stack's bucket, for reading and writing much: all that is in it, whether or not the store lists it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlflow_onprem.backup.objects import Entry, pair
from mlflow_onprem.backup.repository import CHUNK, Counted, Repository, pieces, pool_name
from mlflow_onprem.backup.s3 import explained, is_gone
from mlflow_onprem.clients import store_disk

if TYPE_CHECKING:
    from minio import Minio


@dataclass(frozen=True)
class Bucket:
    """The stack's bucket, for reading and writing much.

    No listing is trusted alone: a store may leave objects out. `disk` is the bucket's folder where the store's disk is this host's; where it is
    not, `names` are keys that must be there as far as the database knows, in order.
    """

    client: Minio
    name: str
    disk: Path | None = None
    names: Callable[[], Iterable[str]] | None = None

    @property
    def against(self) -> Literal["", "disk", "names"]:
        """What the store's listing is compared with."""
        return "disk" if self.disk is not None else "names" if self.names is not None else ""

    def list(self) -> Iterator[Entry]:
        """Every object, in the store's order, which is that of the keys."""
        if self.disk is not None:
            yield from self._with_disk(self.disk)
        elif self.names is not None:
            yield from self._with_names(self.names())
        else:
            yield from self.listed()

    def listed(self) -> Iterator[Entry]:
        """What the store lists."""
        with explained(f"bucket {self.name}"):
            for each in self.client.list_objects(self.name, recursive=True):
                modified = each.last_modified.isoformat() if each.last_modified else ""
                yield Entry(each.object_name or "", each.etag or "", each.size or 0, modified, each.version_id or "")

    def look(self, key: str) -> Entry | None:
        """One object by its name; None where there is none."""
        from minio.error import S3Error

        with explained(f"bucket {self.name}"):
            try:
                found = self.client.stat_object(self.name, key)
            except S3Error as failed:
                if is_gone(failed):
                    return None
                raise
        modified = found.last_modified.isoformat() if found.last_modified else ""
        return Entry(key, found.etag or "", found.size or 0, modified, found.version_id or "")

    def hides(self) -> bool:
        """Whether the store leaves objects out of its listing that are below another one's name: tried, with two objects that are deleted again."""
        from minio.error import S3Error

        place = f"mlflow-onprem-probe/{secrets.token_hex(8)}"
        both = [f"{place}/a", f"{place}/a/b"]
        with explained(f"bucket {self.name}"):
            try:
                for key in both:
                    self.client.put_object(self.name, key, BytesIO(b"probe"), 5)
                listed = [each.object_name for each in self.client.list_objects(self.name, prefix=f"{place}/", recursive=True)]
            except S3Error as failed:
                # MinIO's releases before 2021 refuse the second one: then none can be hidden.
                if failed.code == "XMinioParentIsObject":
                    return False
                raise
            finally:
                for key in reversed(both):
                    self.client.remove_object(self.name, key)
        return listed != both

    def remove(self, key: str) -> None:
        """Delete one object."""
        with explained(f"bucket {self.name}"):
            self.client.remove_object(self.name, key)

    def _with_disk(self, disk: Path) -> Iterator[Entry]:
        on_disk = (Entry(key, "", 0, "") for key in store_disk.keys(disk))
        for listed, kept in pair(self.listed(), on_disk):
            found = listed or (self.look(kept.key) if kept is not None else None)
            if found is not None:
                yield found

    def _with_names(self, names: Iterable[str]) -> Iterator[Entry]:
        above = store_disk.Above()
        for listed, known in pair(self.listed(), (Entry(key, "", 0, "") for key in names)):
            entry = listed or known
            assert entry is not None
            hiders = above.over(entry.key)
            if listed is not None:
                above.add(listed.key)
                yield listed
            elif hiders and (found := self.look(entry.key)) is not None:
                yield found

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
