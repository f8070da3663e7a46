"""Uploads that go from the client's socket to the store, without a temporary file on the server's disk."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterable
from typing import Any, BinaryIO

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository
from starlette.requests import ClientDisconnect

from . import compat
from .media import stored_as

# S3 takes at most 10,000 parts: 8 MiB for the first thousand, then 64 MiB, is 570 GiB.
_PART = 8 * 1024 * 1024
_LATE_PART = 64 * 1024 * 1024
_LATE = 1000


class StreamsToS3(compat.artifact_mixin()):  # type: ignore[misc]
    """What an artifact repository needs so that MLflow hands it the request's body as it comes in."""

    _s3: S3ArtifactRepository

    def log_artifact_from_stream(self, stream: BinaryIO, artifact_file_name: str, artifact_path: str | None = None) -> None:
        """Upload from a file-like object."""
        target = self._target(artifact_file_name, artifact_path)
        extra = target.extra
        target.client.upload_fileobj(stream, target.where["Bucket"], target.where["Key"], ExtraArgs=extra)

    async def log_artifact_from_async_stream(self, chunks: AsyncIterable[bytes], artifact_file_name: str, artifact_path: str | None = None) -> None:
        """Upload while the client still sends: one part is on its way to the store, the next one fills."""
        target = self._target(artifact_file_name, artifact_path)
        buffer = bytearray()
        try:
            async for chunk in chunks:
                buffer += chunk
                if len(buffer) >= target.part_size:
                    part, buffer = buffer, bytearray()
                    await target.send_part(part)
            await target.finish(buffer)
        except ClientDisconnect:
            # Nobody hears the answer; MLflow's own exception only keeps a traceback out of the journal.
            await target.abort()
            raise MlflowException("the client closed the connection during an upload") from None
        except BaseException:
            # A half-sent file must not become an artifact.
            await target.abort()
            raise

    def _target(self, name: str, artifact_path: str | None) -> _Upload:
        bucket, root = self._s3.parse_s3_compliant_uri(self._s3.artifact_uri)
        key = posixpath.join(root, artifact_path or "", posixpath.basename(name))
        extra = {**stored_as(name), **(self._s3.get_s3_file_upload_extra_args() or {})}
        return _Upload(self._s3._get_s3_client(), {"Bucket": bucket, "Key": key}, extra)


class _Upload:
    """One object on its way: a single PUT when it is small, a multipart upload when it is not."""

    def __init__(self, client: Any, where: dict[str, str], extra: dict[str, Any]) -> None:
        self.client = client
        self.where = where
        self.extra = extra
        self._upload_id: str | None = None
        self._etags: list[str] = []
        self._sending: asyncio.Task[None] | None = None

    @property
    def part_size(self) -> int:
        return _PART if len(self._etags) < _LATE else _LATE_PART

    async def send_part(self, body: bytearray) -> None:
        """Start to send `body`, once the part before it is sent: the memory in use is two parts."""
        await self._sent()
        if self._upload_id is None:
            answer = await asyncio.to_thread(self.client.create_multipart_upload, **self.where, **self.extra)
            self._upload_id = answer["UploadId"]
        self._sending = asyncio.create_task(self._send(body))

    async def finish(self, rest: bytearray) -> None:
        """Send what is left and make the object visible."""
        if self._upload_id is None:
            await asyncio.to_thread(self.client.put_object, Body=bytes(rest), **self.where, **self.extra)
            return
        if rest:
            await self.send_part(rest)
        await self._sent()
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(self._etags, 1)]
        await asyncio.to_thread(
            self.client.complete_multipart_upload,
            UploadId=self._upload_id,
            MultipartUpload={"Parts": parts},
            **self.where,
        )

    async def abort(self) -> None:
        """Leave nothing behind; shielded, because the request may be cancelled already."""
        if self._upload_id is not None:
            await asyncio.shield(self._abort(self._upload_id))

    async def _abort(self, upload_id: str) -> None:
        if self._sending is not None:
            await asyncio.wait([self._sending])
        await asyncio.to_thread(self.client.abort_multipart_upload, UploadId=upload_id, **self.where)

    async def _send(self, body: bytearray) -> None:
        answer = await asyncio.to_thread(
            self.client.upload_part,
            Body=bytes(body),
            PartNumber=len(self._etags) + 1,
            UploadId=self._upload_id,
            **self.where,
        )
        self._etags.append(answer["ETag"])

    async def _sent(self) -> None:
        if self._sending is not None:
            await self._sending
            self._sending = None
