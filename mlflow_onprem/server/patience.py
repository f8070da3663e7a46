"""An S3 client that waits for a store which is being restarted, instead of failing the request in hand.

botocore retries a refused connection four times within seconds of random length. A store that takes up a new root password is away for
longer than the unlucky ones of those; here each request asks again, at a steady pace, until the store is back or the time is up.
"""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import ConnectionClosedError, ConnectTimeoutError, EndpointConnectionError
from botocore.exceptions import ConnectionError as NoConnection
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

# Seconds for one request, and between two tries. MLflow's client itself waits 120 s for an answer.
DEADLINE = 60.0
PACE = 0.1
_AWAY = (EndpointConnectionError, ConnectionClosedError, ConnectTimeoutError, NoConnection)
_STARTING = 503


def wait_for_store(response: Any, caught_exception: Exception | None, request_dict: dict[str, Any], **_: Any) -> float | None:
    """botocore's question whether to try again: the seconds until then, None to leave the answer to botocore's own rules."""
    until = request_dict["context"].setdefault("mlflow_onprem_until", time.monotonic() + DEADLINE)
    starting = response is not None and response[0].status_code == _STARTING
    if (starting or isinstance(caught_exception, _AWAY)) and time.monotonic() < until:
        return PACE
    return None


def patient(client: Any) -> Any:
    """Make a client wait; once is enough."""
    client.meta.events.register_first("needs-retry.s3", wait_for_store, unique_id="mlflow-onprem-patience")
    return client


class PatientS3ArtifactRepository(S3ArtifactRepository):  # type: ignore[misc]
    """MLflow's S3 repository with a client that waits."""

    def _get_s3_client(self) -> Any:
        return patient(super()._get_s3_client())
