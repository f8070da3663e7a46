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
from .handover import StreamsFromS3, require_file
from .media import encoding_guessed
from .s3_retry import PatientS3ArtifactRepository
from .streaming import StreamsToS3


class PresignedS3ArtifactRepository(StreamsToS3, StreamsFromS3, PatientS3ArtifactRepository):
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

    def get_download_presigned_url(self, artifact_path: str, expiration: int = 300) -> Any:
        """Sign a URL for one file; without its size where clients had better fetch it through the server, which they then do."""
        require_file(artifact_path)
        response = super().get_download_presigned_url(artifact_path, expiration)
        if encoding_guessed(artifact_path) and self._stored_as_packed(artifact_path):
            # Every client would unpack it on its way, whatever the store makes of the wish not to say so.
            response.file_size = None
        return response

    def _stored_as_packed(self, artifact_path: str) -> bool:
        """Whether it was stored with a Content-Encoding, as it was before this server stopped doing that (media.py)."""
        bucket, root = self.parse_s3_compliant_uri(self.artifact_uri)
        about = self._get_s3_client().head_object(Bucket=bucket, Key=posixpath.join(root, artifact_path))
        return about.get("ContentEncoding", "identity") not in ("", "identity")

    def _get_s3_client(self) -> Any:
        return _PublicSigner(super()._get_s3_client(), _get_s3_client(s3_endpoint_url=own_address.public_store_url(os.environ)))


class _PublicSigner:
    """An S3 client that signs URLs with another client, made for the public address."""

    def __init__(self, client: Any, signer: Any) -> None:
        self._client = client
        self._signer = signer

    def generate_presigned_url(self, method: str, Params: dict[str, Any], **options: Any) -> str:  # noqa: N803 - boto3's name
        """Sign for the public address; a browser must not unpack what it downloads either."""
        more = {"ResponseContentEncoding": "identity"} if method == "get_object" else {}
        url: str = self._signer.generate_presigned_url(method, Params={**Params, **more}, **options)
        return url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)
