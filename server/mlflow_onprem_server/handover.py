"""How an artifact repository hands a download over to the middleware that streams it (downloads.py).

MLflow's handlers, on Flask and on FastAPI alike, ask the repository for a path on the server's disk, then for a download into a
temporary folder. In a client's request ours does neither: it raises `SendInstead`, which the handlers take for one of MLflow's
errors and turn into an answer at once. What this leans on is checked by tests/server/test_downloads.py for each new version of MLflow:
handlers catch MlflowException, answer with its `get_http_status_code`, and fetch artifacts by the four methods below alone.
"""

from __future__ import annotations

import posixpath
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.artifact.artifact_repo import TRACE_DATA_FILE_NAME
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

# What the handlers answer with; no answer of theirs that is not ours has it together with an object named.
STATUS = 200


@dataclass(frozen=True)
class StoredObject:
    """An object in the store, and the client that reads it."""

    client: Any
    where: dict[str, str]
    path: str

    @property
    def name(self) -> str:
        """The name to save it under."""
        return posixpath.basename(self.path)


@dataclass
class Asked:
    """A request that may end in a download."""

    found: StoredObject | None = None


# Seen by the threads and tasks that MLflow's frameworks start for the request too: they copy the context, not what it holds.
asked: ContextVar[Asked | None] = ContextVar("asked", default=None)


class SendInstead(MlflowException):  # type: ignore[misc]
    """Not an error: the object is sent in place of this answer."""

    def get_http_status_code(self) -> int:
        """Let MLflow finish the request as one that went well."""
        return STATUS


def require_file(path: str) -> None:
    """Refuse what cannot be one file before the store is asked: of a folder MLflow fetches everything, with no path at all everybody's.

    Raises MlflowException.
    """
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise MlflowException(
            f"The path {path!r} names no file. A folder is listed first, then its files are fetched one by one.", INVALID_PARAMETER_VALUE
        )


class StreamsFromS3:
    """An artifact repository whose files go to a client without coming to this server's disk."""

    _s3: S3ArtifactRepository

    def get_local_path(self, artifact_path: str) -> str | None:
        """Nothing is on this disk. Raises SendInstead in a client's request."""
        self._hand_over(artifact_path)
        return None

    def download_artifacts(self, artifact_path: str | None, dst_path: str | None = None) -> str:
        """Fetch into a folder, for whoever works with the content. Raises SendInstead in a client's request."""
        self._hand_over(artifact_path or "")
        downloaded: str = super().download_artifacts(artifact_path, dst_path)  # type: ignore[misc]
        return downloaded

    def download_trace_data_to_file(self, dst_path: Path) -> Path:
        """Fetch a trace's spans. Raises SendInstead in a client's request."""
        self._hand_over(TRACE_DATA_FILE_NAME)
        downloaded: Path = super().download_trace_data_to_file(dst_path)  # type: ignore[misc]
        return downloaded

    def download_trace_attachment_to_file(self, path: str, dst_path: Path) -> Path:
        """Fetch what belongs to a trace. Raises SendInstead in a client's request."""
        self._hand_over(posixpath.join("attachments", path))
        downloaded: Path = super().download_trace_attachment_to_file(path, dst_path)  # type: ignore[misc]
        return downloaded

    def _hand_over(self, path: str) -> None:
        request = asked.get()
        if request is None:
            return
        require_file(path)
        bucket, root = self._s3.parse_s3_compliant_uri(self._s3.artifact_uri)
        request.found = StoredObject(self._s3._get_s3_client(), {"Bucket": bucket, "Key": posixpath.join(root, path)}, path)
        raise SendInstead("")
