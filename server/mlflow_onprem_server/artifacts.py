"""The artifact repository behind `onprem-s3://`: every byte goes through MLflow's own port.

MLflow advertises multipart transfers whenever its S3 repository stands behind the proxy, and its
clients then talk to the store by presigned URL, which a store on loopback refuses. What is
advertised is the class; this one does the same work without those capabilities.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from .handover import StreamsFromS3
from .s3_retry import PatientS3ArtifactRepository
from .streaming import StreamsToS3


def s3_uri(uri: str) -> str:
    """Return `uri` with the scheme that MLflow's S3 repository knows."""
    return "s3" + uri[uri.index(":") :]


class ProxiedS3ArtifactRepository(StreamsToS3, StreamsFromS3, ArtifactRepository):  # type: ignore[misc]
    """MLflow's S3 repository by delegation."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._s3 = PatientS3ArtifactRepository(s3_uri(artifact_uri), tracking_uri=tracking_uri, registry_uri=registry_uri)

    def s3_client(self) -> Any:
        """The client behind it, for whoever wants it made beforehand."""
        return self._s3._get_s3_client()

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Upload one file."""
        self._s3.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Upload a folder."""
        self._s3.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """List what is directly under `path`."""
        return list(self._s3.list_artifacts(path))

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file or everything under a folder."""
        self._s3.delete_artifacts(artifact_path)

    def upload_archived_trace_data_bytes(self, data: bytes) -> None:
        """Upload an archived trace."""
        self._s3.upload_archived_trace_data_bytes(data)

    def _download_file(self, remote_file_path: str, local_path: str | Path) -> None:
        self._s3._download_file(remote_file_path, local_path)


class DirectS3ArtifactRepository(StreamsToS3, StreamsFromS3, PatientS3ArtifactRepository):
    """MLflow's S3 repository for `s3://`, where clients hold the keys: what browsers fetch of such runs goes through the server as well."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)
        self._s3 = self
