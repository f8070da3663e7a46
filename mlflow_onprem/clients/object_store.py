"""The S3 object store as its administrator sees it, through the minio SDK."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar
from urllib.parse import urlsplit

from mlflow_onprem.clients.store_errors import StoreForeign, StoreRefused, StoreStarting, StoreUnreachable
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.secret import Secret

if TYPE_CHECKING:
    from minio import Minio, MinioAdmin

    from mlflow_onprem.clients.store_contract import Lack

T = TypeVar("T")
TIMEOUT = 10.0  # seconds, for one request
STARTING = 20.0  # seconds, for a store that is still starting


class ObjectStore(Protocol):
    """What the bucket and access-key resources need."""

    def has_bucket(self, bucket: str) -> bool: ...
    def make_bucket(self, bucket: str) -> None: ...
    def remove_bucket(self, bucket: str) -> None: ...
    def key_policy(self, access_key: str) -> dict[str, Any] | None: ...
    def add_key(self, access_key: str, secret_key: Secret, policy: dict[str, Any]) -> None: ...
    def remove_key(self, access_key: str) -> None: ...
    def key_works(self, access_key: str, secret_key: Secret, bucket: str) -> bool: ...
    def lacks(self, name: str, bucket: str | None, *, presigned: bool) -> tuple[Lack, ...]: ...
    def bring(self, bucket: str, name: str, file: Path) -> None: ...


class MinioStore:
    """One store with its administrator's (or, for an external one, its only) credentials. Imports and connects at the first question."""

    def __init__(self, endpoint: str, access_key: str, secret_key: Secret, region: str = "us-east-1") -> None:
        parts = urlsplit(endpoint)
        self.endpoint = endpoint
        self.region = region
        self._address, self._secure = parts.netloc, parts.scheme == "https"
        self._access_key, self._secret_key = access_key, secret_key
        self._lock = threading.Lock()
        self._pool: Any = None

    def has_bucket(self, bucket: str) -> bool:
        """Whether the bucket exists. Raises StoreUnreachable, StoreRefused."""
        return self._ask(lambda: self.client().bucket_exists(bucket))

    def make_bucket(self, bucket: str) -> None:
        """Create a bucket in the store's region."""
        self._ask(lambda: self.client().make_bucket(bucket, location=self.region))

    def remove_bucket(self, bucket: str) -> None:
        """Remove a bucket with all its objects and their versions."""
        from minio.deleteobjects import DeleteObject

        def remove() -> None:
            client = self.client()
            listed = client.list_objects(bucket, recursive=True, include_version=True)
            objects = (DeleteObject(each.object_name or "", each.version_id) for each in listed)
            for failed in client.remove_objects(bucket, objects):
                raise OnPremError(f"object {failed.name} could not be removed: {failed.message}", "run the same command again")
            client.remove_bucket(bucket)

        self._ask(remove)

    def key_policy(self, access_key: str) -> dict[str, Any] | None:
        """The policy an access key carries, None where there is no such key."""
        from minio.error import MinioAdminException

        try:
            answer = json.loads(self._ask(lambda: self._admin().get_service_account(access_key)))
        except MinioAdminException as failed:
            if "NoSuch" in str(failed) or "not exist" in str(failed):
                return None
            raise OnPremError(f"the object store refused to show access key: {failed}", "look at `mlflow-onprem logs minio`") from failed
        policy = answer.get("policy") or {}
        return json.loads(policy) if isinstance(policy, str) else policy

    def add_key(self, access_key: str, secret_key: Secret, policy: dict[str, Any]) -> None:
        """Make an access key that may do what the policy says."""
        self._change(
            lambda: self._admin().add_service_account(
                access_key=access_key, secret_key=secret_key.reveal(), name="mlflow", description="mlflow-onprem", policy=policy
            )
        )

    def remove_key(self, access_key: str) -> None:
        """Delete an access key; from now on it is refused."""
        self._change(lambda: self._admin().delete_service_account(access_key))

    def key_works(self, access_key: str, secret_key: Secret, bucket: str) -> bool:
        """Whether the store lets this key list that bucket: tried, not looked up."""
        from minio.error import S3Error

        client = self.client(access_key, secret_key)
        try:
            self._ask(lambda: next(iter(client.list_objects(bucket, prefix="mlflow-onprem-probe/")), None))
        except StoreRefused:
            return False
        except S3Error as failed:
            if failed.code == "NoSuchBucket":
                return True
            raise OnPremError(f"the object store answers {failed.code}: {failed.message}", "look at `mlflow-onprem logs minio`") from failed
        return True

    def round_trip(self, bucket: str, name: str, content: BinaryIO, length: int) -> bytes:
        """Put an object of `length` bytes, get it back, delete it: what these credentials are for. Raises OnPremError."""
        from minio.error import S3Error

        def travel() -> bytes:
            client = self.client()
            client.put_object(bucket, name, content, length)
            answer = client.get_object(bucket, name)
            try:
                return bytes(answer.read())
            finally:
                answer.close()
                answer.release_conn()
                client.remove_object(bucket, name)

        try:
            return self._ask(travel)
        except S3Error as failed:
            raise OnPremError(f"the object store answers {failed.code}: {failed.message}", "look at `mlflow-onprem logs minio`") from failed

    def _change(self, call: Callable[[], T]) -> T:
        from minio.error import MinioAdminException

        try:
            return self._ask(call)
        except MinioAdminException as failed:
            raise OnPremError(f"the object store refused the access key's change: {failed}", "look at `mlflow-onprem logs minio`") from failed

    def lacks(self, name: str, bucket: str | None, *, presigned: bool) -> tuple[Lack, ...]:
        """What it cannot do of all that is used of it: see store_contract.try_out. Raises StoreUnreachable, StoreRefused."""
        from mlflow_onprem.clients.store_contract import try_out

        return try_out(self, name, bucket, presigned=presigned)

    def bring(self, bucket: str, name: str, file: Path) -> None:
        """Make an object the content of a file: sent where it is missing or another, then compared byte for byte. Raises OnPremError."""
        from mlflow_onprem.clients.store_copy import bring

        self._ask(lambda: bring(self.client(), bucket, name, file))

    def keys(self) -> tuple[str, Secret]:
        """The access key and its secret that this store was given."""
        return self._access_key, self._secret_key

    def client(self, access_key: str | None = None, secret_key: Secret | None = None) -> Minio:
        """The SDK's client, with other keys where they are given."""
        from minio import Minio

        return Minio(
            endpoint=self._address,
            access_key=self._access_key if access_key is None else access_key,
            secret_key=(self._secret_key if secret_key is None else secret_key).reveal(),
            secure=self._secure,
            region=self.region,
            http_client=self.http(),
        )

    def _admin(self) -> MinioAdmin:
        from minio.credentials.providers import StaticProvider
        from minio.minioadmin import MinioAdmin

        credentials = StaticProvider(self._access_key, self._secret_key.reveal())
        return MinioAdmin(endpoint=self._address, credentials=credentials, secure=self._secure, http_client=self.http())

    def http(self) -> Any:
        """The pool of connections."""
        with self._lock:
            if self._pool is None:
                import os

                import urllib3

                ca = os.environ.get("SSL_CERT_FILE") or os.environ.get("REQUESTS_CA_BUNDLE") or "/etc/ssl/certs/ca-certificates.crt"
                patience = {"timeout": urllib3.Timeout(TIMEOUT), "retries": urllib3.Retry(total=1, backoff_factor=0.2)}
                trust = {"cert_reqs": "CERT_REQUIRED", "ca_certs": ca} if self._secure else {}
                self._pool = urllib3.PoolManager(**{**patience, **trust})  # type: ignore[arg-type]  # keywords of several types in one mapping
            return self._pool

    def _ask(self, call: Callable[[], T]) -> T:
        """One request; a store that says it is still starting is asked again for a while."""
        end = time.monotonic() + STARTING
        while True:
            try:
                return self._ask_once(call)
            except StoreStarting:
                if time.monotonic() > end:
                    raise
            time.sleep(0.2)

    def _ask_once(self, call: Callable[[], T]) -> T:
        from minio.error import InvalidResponseError, MinioAdminException, S3Error, ServerError
        from urllib3.exceptions import HTTPError

        try:
            return call()
        except (HTTPError, ServerError, InvalidResponseError) as failed:
            if getattr(failed, "status_code", None) == 503:
                raise StoreStarting(f"the object store at {self.endpoint} is still starting", "run this again in a moment") from failed
            raise StoreUnreachable(
                f"the object store at {self.endpoint} does not answer: {failed}", "look at `mlflow-onprem status` and `mlflow-onprem logs minio`"
            ) from failed
        except S3Error as failed:
            if failed.code in REFUSALS:
                raise StoreRefused(f"the object store refuses these credentials ({failed.code})", "run `sudo mlflow-onprem doctor`") from failed
            if failed.code in NOT_YET:
                raise StoreStarting(f"the object store at {self.endpoint} is still starting", "run this again in a moment") from failed
            if failed.code == "InternalError":
                raise StoreUnreachable(
                    f"the object store at {self.endpoint} answers and cannot get at its own data: {failed.message}",
                    "run `sudo mlflow-onprem plan`: somebody may have changed its data folder; `mlflow-onprem logs minio` says more",
                ) from failed
            raise
        except MinioAdminException as failed:
            if any(code in str(failed) for code in NOT_YET):
                raise StoreStarting(f"the object store at {self.endpoint} is still starting", "run this again in a moment") from failed
            if any(code in str(failed) for code in REFUSALS):
                raise StoreRefused("the object store refuses its administrator", "run `sudo mlflow-onprem install`") from failed
            if '"Code"' not in str(failed):
                raise StoreForeign(
                    f"something else than the object store answers at {self.endpoint}", "`mlflow-onprem status` shows what is on the ports"
                ) from failed
            raise


NOT_YET = ("XMinioServerNotInitialized", "XMinioIAMNotInitialized", "ServerNotInitialized", "SlowDown")
REFUSALS = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidTokenId")
