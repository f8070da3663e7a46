"""Clients that move much data to and from an S3 store, and its errors in plain words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow_onprem.clients.object_store import REFUSALS
from mlflow_onprem.clients.store_errors import StoreRefused, StoreUnreachable
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.secret import Secret

if TYPE_CHECKING:
    from minio import Minio

#: Seconds without a byte from the store.
SILENCE = 60.0
#: Transfers side by side.
WORKERS = 4
GONE = ("NoSuchKey", "NoSuchObject", "NoSuchVersion")
FULL = ("XMinioStorageFull", "QuotaExceeded", "EntityTooLarge")


def connect(endpoint: str, access_key: str, secret_key: Secret, region: str) -> Minio:
    """A client with patience for large objects; connects at its first request."""
    import urllib3
    from minio import Minio

    parts = urlsplit(endpoint)
    secure = parts.scheme == "https"
    ca = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or "/etc/ssl/certs/ca-certificates.crt"
    trust: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED", "ca_certs": ca} if secure else {}
    retries = urllib3.Retry(total=4, backoff_factor=0.5, status_forcelist=(500, 502, 503, 504))
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=10, read=SILENCE), maxsize=WORKERS * 2, retries=retries, **trust)
    return Minio(endpoint=parts.netloc, access_key=access_key, secret_key=secret_key.reveal(), secure=secure, region=region, http_client=pool)


def is_gone(failed: Exception) -> bool:
    """Whether the answer says that there is no such object (any more)."""
    return getattr(failed, "code", "") in GONE


@contextmanager
def explained(where: str) -> Iterator[None]:
    """What the SDK raises as OnPremError; that an object is not there is left to the caller."""
    from minio.error import MinioException, S3Error
    from urllib3.exceptions import HTTPError

    try:
        yield
    except S3Error as failed:
        if is_gone(failed):
            raise
        if failed.code in REFUSALS:
            raise StoreRefused(f"{where} refuses the credentials ({failed.code})", "check the credentials file, and what its keys may do") from failed
        if failed.code in FULL:
            raise OnPremError(f"{where} is full ({failed.code})", "free some space there, then run the same command again") from failed
        if failed.code == "NoSuchBucket":
            raise OnPremError(f"{where}: there is no such bucket", "make it there, or check the address and its endpoint_url") from failed
        raise OnPremError(f"{where} answers {failed.code}: {failed.message}", "run the same command again; what is done is kept") from failed
    except (HTTPError, MinioException) as failed:
        reason = getattr(failed, "reason", None) or failed
        raise StoreUnreachable(f"{where} does not answer: {reason}", "is it up, and reachable from here? then run the same command again") from failed
