"""A repository in another S3 store, through the minio SDK."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from mlflow_onprem.backup.repository import CHUNK, Missing, Source, pool_name
from mlflow_onprem.backup.s3 import explained
from mlflow_onprem.core.errors import OnPremError

if TYPE_CHECKING:
    from minio import Minio

#: Up to here an object is held in memory, hashed and sent under its own name at once.
SMALL = 8 << 20
PARTS = 9_000  # S3 takes 10,000
COPY_LIMIT = 5 << 30  # one copy request takes no more


class S3Repository:
    """`s3://bucket/prefix` with credentials of its own. The bucket must exist."""

    def __init__(self, client: Minio, bucket: str, prefix: str) -> None:
        self._client, self._bucket, self._prefix = client, bucket, f"{prefix}/" if prefix else ""

    @property
    def address(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Objects whose name starts with the prefix, with their size in bytes."""
        with explained(self.address):
            for each in self._client.list_objects(self._bucket, prefix=self._prefix + prefix, recursive=True):
                yield (each.object_name or "").removeprefix(self._prefix), each.size or 0

    def put(self, name: str, path: Path) -> None:
        """A file of this host under that name."""
        with path.open("rb") as file:
            self._put(name, file, path.stat().st_size)

    def read(self, name: str) -> bytes | None:
        """A small object, None where there is none."""
        from minio.error import S3Error

        try:
            return b"".join(self._pieces(name))
        except S3Error:
            return None

    def open(self, name: str) -> Iterator[bytes]:
        """An object in pieces."""
        from minio.error import S3Error

        try:
            yield from self._pieces(name)
        except S3Error:
            raise Missing(name, self.address) from None

    def store(self, source: Source, size: int) -> str:
        """Put content into the pool and return its sha256."""
        if size <= SMALL:
            content = source.read()
            sha256 = hashlib.sha256(content).hexdigest()
            self._put(pool_name(sha256), io.BytesIO(content), len(content))
            return sha256
        # Its name is known when all of it went through: sent under a passing name, then copied within the store.
        passing = f"incoming/{uuid.uuid4().hex}"
        hashed = _Hashed(source)
        self._put(passing, cast(BinaryIO, hashed), size)
        self._rename(passing, pool_name(hashed.sha256), size)
        return hashed.sha256

    def remove(self, names: Iterable[str]) -> None:
        """Objects; nothing there is fine."""
        from minio.deleteobjects import DeleteObject

        with explained(self.address):
            for failed in self._client.remove_objects(self._bucket, (DeleteObject(self._prefix + name) for name in names)):
                raise OnPremError(f"{failed.name} in {self.address} could not be removed: {failed.message}", "run the same command again")

    def free(self) -> int | None:
        """Not known of a bucket. Raises OnPremError where there is no such bucket, or it is not reached."""
        with explained(self.address):
            if not self._client.bucket_exists(self._bucket):
                raise OnPremError(f"{self.address}: there is no such bucket", "make it there, or check the address and its endpoint_url")
        return None

    def settle(self) -> None:
        """What runs that died have left is gone; an object is durable when its PUT was answered."""
        self.remove([name for name, _ in self.names("incoming/")])

    def _put(self, name: str, source: BinaryIO, size: int) -> None:
        part = max(16 << 20, -(-size // PARTS))
        with explained(self.address):
            self._client.put_object(self._bucket, self._prefix + name, source, size, part_size=part, num_parallel_uploads=1)

    def _rename(self, old: str, new: str, size: int) -> None:
        from minio.commonconfig import ComposeSource, CopySource

        with explained(self.address):
            if size < COPY_LIMIT:
                self._client.copy_object(self._bucket, self._prefix + new, CopySource(self._bucket, self._prefix + old))
            else:
                self._client.compose_object(self._bucket, self._prefix + new, [ComposeSource(self._bucket, self._prefix + old)])
            self._client.remove_object(self._bucket, self._prefix + old)

    def _pieces(self, name: str) -> Iterator[bytes]:
        with explained(self.address):
            answer: Any = self._client.get_object(self._bucket, self._prefix + name)
            try:
                yield from answer.stream(CHUNK)
            finally:
                answer.close()
                answer.release_conn()


class _Hashed:
    """A source that is hashed while it is read."""

    def __init__(self, source: Source) -> None:
        self._source, self._digest = source, hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def read(self, amount: int = -1, /) -> bytes:
        """The next bytes."""
        chunk = self._source.read(amount)
        self._digest.update(chunk)
        return chunk
