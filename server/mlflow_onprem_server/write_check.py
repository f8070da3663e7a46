"""No write hides another one: every PUT of this service is looked at before it reaches the store.

An object `a` beside an object `a/b` can be read by name in MinIO, and no listing shows `a/b` any more. Whoever comes second is refused. The
check hangs on the S3 client itself, so that no route by which MLflow uploads goes past it.
"""

from __future__ import annotations

import threading
import time
from functools import lru_cache
from io import FileIO
from typing import Any

from botocore.exceptions import ClientError
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from . import object_names
from .path_locks import PathLocks

# Seconds after which a folder is looked at again: a client with keys of its own may have put an object in its place.
_REMEMBER = 30.0
_MOST = 20_000
_WHERE = "mlflow_onprem_where"
_HELD = "mlflow_onprem_held"
_GONE = ("404", "NoSuchKey", "NotFound")


class NameRefused(MlflowException):  # type: ignore[misc]
    """HTTP 400, with the reason and the way out."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=INVALID_PARAMETER_VALUE)


class WriteCheck:
    """One S3 client's check. What is known of folders is shared by all threads of the process."""

    def __init__(self, client: Any, locks: PathLocks) -> None:
        self._client, self._locks = client, locks
        self._folders: dict[tuple[str, str], tuple[bytes, float]] = {}
        self._lock = threading.Lock()

    def names(self, key: str) -> None:
        """Raises NameRefused for a name that would not come back."""
        if why := object_names.unfit(key):
            raise NameRefused(object_names.unfit_message(key, why))

    def look(self, bucket: str, key: str) -> None:
        """Raises NameRefused where the object would hide others, or be hidden."""
        self.names(key)
        for folder in object_names.ancestors(key):
            if not self._is_known(bucket, folder):
                generation = self._locks.generation(folder)
                if self._exists(bucket, folder):
                    raise NameRefused(object_names.below_file(key, folder))
                self._remember(bucket, folder, generation)
        found = self._client.list_objects_v2(Bucket=bucket, Prefix=f"{key}/", MaxKeys=1).get("Contents")
        if found:
            raise NameRefused(object_names.beside_folder(key, found[0]["Key"]))

    def take(self, bucket: str, key: str) -> FileIO:
        """Look while nobody else can write what this one would hide; returns the open file that holds the names."""
        self.names(key)
        held = self._locks.take(key, object_names.ancestors(key))
        try:
            self.look(bucket, key)
            self._locks.written(key)
        except BaseException:
            held.close()
            raise
        return held

    def _exists(self, bucket: str, key: str) -> bool:
        try:
            self._client.head_object(Bucket=bucket, Key=key)
        except ClientError as answer:
            if answer.response.get("Error", {}).get("Code") in _GONE:
                return False
            raise
        return True

    def _is_known(self, bucket: str, folder: str) -> bool:
        generation, until = self._folders.get((bucket, folder), (b"", 0.0))
        return time.monotonic() < until and generation == self._locks.generation(folder)

    def _remember(self, bucket: str, folder: str, generation: bytes) -> None:
        with self._lock:
            if len(self._folders) >= _MOST:
                self._folders.clear()
            self._folders[bucket, folder] = (generation, time.monotonic() + _REMEMBER)


def install() -> None:
    """Make every S3 client that MLflow's own code makes in this process look before it writes; once, before the first is made."""
    from mlflow.store.artifact import s3_artifact_repo

    real = s3_artifact_repo._get_s3_client
    s3_artifact_repo._get_s3_client = lambda *args, **kwargs: checked(real(*args, **kwargs))


def checked(client: Any) -> Any:
    """Make a client look before it writes; once is enough."""
    if not hasattr(client, "mlflow_onprem_check"):
        client.mlflow_onprem_check = check = WriteCheck(client, _locks())
        events = client.meta.events
        for operation in ("PutObject", "CreateMultipartUpload", "CompleteMultipartUpload"):
            events.register(f"before-parameter-build.s3.{operation}", _note, unique_id=f"mlflow-onprem-where-{operation}")
        # The parts of a large file are not asked about: its name was looked at before the first, and is again before the last word.
        events.register("before-call.s3.CreateMultipartUpload", _Look(check))
        for operation in ("PutObject", "CompleteMultipartUpload"):
            events.register(f"before-call.s3.{operation}", _Take(check))
            events.register(f"after-call.s3.{operation}", _let_go)
            events.register(f"after-call-error.s3.{operation}", _let_go)
    return client


def _note(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    context[_WHERE] = (params["Bucket"], params["Key"])


class _Look:
    def __init__(self, check: WriteCheck) -> None:
        self._check = check

    def __call__(self, context: dict[str, Any], **_: Any) -> None:
        self._check.look(*context[_WHERE])


class _Take:
    def __init__(self, check: WriteCheck) -> None:
        self._check = check

    def __call__(self, context: dict[str, Any], **_: Any) -> None:
        context[_HELD] = self._check.take(*context[_WHERE])


def _let_go(context: dict[str, Any], **_: Any) -> None:
    held = context.pop(_HELD, None)
    if held is not None:
        held.close()


@lru_cache(maxsize=1)
def _locks() -> PathLocks:
    return PathLocks()
