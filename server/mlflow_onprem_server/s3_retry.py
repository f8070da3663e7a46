"""An S3 client that waits for a store which is being restarted, instead of failing the request in hand.

botocore retries a refused connection four times within seconds of random length. A store that takes up a new root password is away for
longer than the unlucky ones of those; here each request asks again, at a steady pace, until the store is back or the time is up.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from botocore.exceptions import ConnectionClosedError, ConnectTimeoutError, EndpointConnectionError
from botocore.exceptions import ConnectionError as NoConnection
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

from . import write_check
from .media import stored_as

logger = logging.getLogger("mlflow_onprem.patience")

# Seconds for one request, and between two tries. MLflow's client itself waits 120 s for an answer.
AWAY_SECONDS = 60.0
# MinIO answers before it has loaded its access keys, and for a moment says of each that there is none.
UNKNOWN_KEY_SECONDS = 10.0
PACE = 0.1
_AWAY = (EndpointConnectionError, ConnectionClosedError, ConnectTimeoutError, NoConnection)
_STARTING = 503
_UNKNOWN_KEY = "InvalidAccessKeyId"


def wait_for_store(response: Any, caught_exception: Exception | None, request_dict: dict[str, Any], **_: Any) -> float | None:
    """botocore's question whether to try again: the seconds until then, None to leave the answer to botocore's own rules."""
    context = request_dict["context"]
    patient_for = patience(response, caught_exception)
    if patient_for and "mlflow_onprem_since" not in context:
        context["mlflow_onprem_since"] = time.monotonic()
        answer = type(caught_exception).__name__ if response is None else f"HTTP {response[0].status_code}"
        logger.warning("the object store is away (%s); a request waits up to %.0f s for it", answer, patient_for)
    return PACE if patient_for and time.monotonic() < context["mlflow_onprem_since"] + patient_for else None


def patience(response: Any, caught_exception: Exception | None) -> float:
    """How many seconds this answer, or its absence, is worth waiting for another one."""
    if response is None:
        return AWAY_SECONDS if isinstance(caught_exception, _AWAY) else 0.0
    http, parsed = response
    if http.status_code == _STARTING:
        return AWAY_SECONDS
    # The answer to a HEAD has no body; MinIO then names its error in a header.
    codes = (parsed.get("Error", {}).get("Code"), http.headers.get("x-minio-error-code"))
    return UNKNOWN_KEY_SECONDS if _UNKNOWN_KEY in codes else 0.0


def patient(client: Any) -> Any:
    """Make a client wait; once is enough."""
    client.meta.events.register_first("needs-retry.s3", wait_for_store, unique_id="mlflow-onprem-patience")
    return client


class PatientS3ArtifactRepository(S3ArtifactRepository):  # type: ignore[misc]
    """MLflow's S3 repository with a client that waits, and looks before it writes."""

    def _get_s3_client(self) -> Any:
        return write_check.checked(patient(super()._get_s3_client()))

    def _upload_file(self, s3_client: Any, local_file: str, bucket: str, key: str) -> None:
        extra = {**stored_as(local_file), **self._bucket_owner_params, **(self.get_s3_file_upload_extra_args() or {})}
        s3_client.upload_file(Filename=local_file, Bucket=bucket, Key=key, ExtraArgs=extra)
