"""The artifact repository behind `onprem-presigned-s3://`: clients move large files to and from the store themselves.

The server uses the store on loopback, but the URLs it signs are for the address that clients see:
a signature covers the host name, so it must be made for the right one.
"""

from __future__ import annotations

import os
import posixpath
from typing import Any

from mlflow.store.artifact.s3_artifact_repo import _get_s3_client

from . import own_address
from .artifacts import s3_uri
from .patience import PatientS3ArtifactRepository
from .streaming import StreamsToS3


class PresignedS3ArtifactRepository(StreamsToS3, PatientS3ArtifactRepository):
    """MLflow's S3 repository, multipart transfers included, with URLs for the store's public address."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(s3_uri(artifact_uri), tracking_uri=tracking_uri, registry_uri=registry_uri)
        self._s3 = self

    def s3_client(self) -> Any:
        """The client behind it, for whoever wants it made beforehand."""
        return self._get_s3_client()

    def create_presigned_upload_url(self, artifact_path: str, expiration: int = 900) -> Any:
        """Sign a URL for a client's own upload; its name is looked at now, for the store will not."""
        bucket, root = self.parse_s3_compliant_uri(self.artifact_uri)
        self._get_s3_client().mlflow_onprem_check.look(bucket, posixpath.join(root, artifact_path))
        return super().create_presigned_upload_url(artifact_path, expiration)

    def _get_s3_client(self) -> Any:
        return _PublicSigner(super()._get_s3_client(), _get_s3_client(s3_endpoint_url=own_address.public_store_url(os.environ)))


class _PublicSigner:
    """An S3 client that signs URLs with another client, made for the public address."""

    def __init__(self, client: Any, signer: Any) -> None:
        self._client = client
        self.generate_presigned_url = signer.generate_presigned_url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)
