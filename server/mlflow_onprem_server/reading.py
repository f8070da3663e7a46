"""One object, or a part of it, read from the store in order; a connection that breaks half-way is made again where it broke.

The store restarts when its root password changes, and a download of hours must live through that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

logger = logging.getLogger("mlflow_onprem.downloads")

# Bytes a read: small enough for many downloads at once, large enough that the change of threads does not count.
CHUNK = 512 * 1024
# Failures in a row without a byte in between. Each one has waited for the store already (s3_retry.py).
_TRIES = 3


class StoreFailed(Exception):
    """The store does not give the rest of the object; the message says why."""


@dataclass(frozen=True)
class Known:
    """What the store says of an object."""

    size: int
    etag: str
    modified: str


class Reading:
    """Bytes from `start` up to and without `stop` of the object that had this tag. Its methods wait for the network."""

    def __init__(self, client: Any, where: dict[str, str], etag: str, start: int, stop: int, body: Any = None) -> None:
        self._client = client
        self._where = where
        self._etag = etag
        self._at = start
        self._stop = stop
        self._body = body
        self._failures = 0

    def read(self) -> bytes:
        """The next bytes, none at the end. Raises StoreFailed."""
        while self._at < self._stop:
            try:
                chunk: bytes = self._connected().read(min(CHUNK, self._stop - self._at))
            except ClientError as error:
                self.close()
                raise StoreFailed(f"the store answered {error.response['Error']['Code']}") from None
            except (BotoCoreError, OSError) as error:
                self._failed(type(error).__name__)
                continue
            if chunk:
                self._at += len(chunk)
                self._failures = 0
                return chunk
            self._failed("the connection ended early")
        return b""

    def close(self) -> None:
        """Give the connection back; it is of no more use where bytes are left."""
        if self._body is not None:
            self._body.close()
            self._body = None

    def _connected(self) -> Any:
        if self._body is None:
            # With its tag: the rest of another object under this name would be garbage.
            answer = self._client.get_object(**self._where, Range=f"bytes={self._at}-{self._stop - 1}", IfMatch=self._etag)
            self._body = answer["Body"]
        return self._body

    def _failed(self, why: str) -> None:
        self.close()
        self._failures += 1
        if self._failures >= _TRIES:
            raise StoreFailed(why)
        logger.warning("the object store broke off a download (%s); it goes on from byte %d", why, self._at)
