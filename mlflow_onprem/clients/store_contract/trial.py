"""One store on trial: clients of it, requests that the SDK does not make, and what a failed attempt says in plain words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import SplitResult, quote, urlsplit

from mlflow_onprem.clients.store_errors import StoreForeign, StoreRefused, StoreUnreachable
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.secret import Secret

if TYPE_CHECKING:
    from minio import Minio

#: Where objects of a trial stand in a bucket that holds others.
PREFIX = "mlflow-onprem-check/"


class Refusal(Exception):
    """The store did something else than it must; what, in words."""


class Subject(Protocol):
    """What a trial needs of a store (object_store.MinioStore)."""

    endpoint: str
    region: str

    def client(self, access_key: str | None = None, secret_key: Secret | None = None) -> Minio: ...
    def keys(self) -> tuple[str, Secret]: ...
    def http(self) -> Any: ...
    def has_bucket(self, bucket: str) -> bool: ...
    def make_bucket(self, bucket: str) -> None: ...
    def remove_bucket(self, bucket: str) -> None: ...
    def key_policy(self, access_key: str) -> dict[str, Any] | None: ...
    def add_key(self, access_key: str, secret_key: Secret, policy: dict[str, Any]) -> None: ...
    def remove_key(self, access_key: str) -> None: ...


@dataclass(frozen=True)
class Trial:
    """A bucket to try things in. `name` tells this trial's own objects, buckets and key from all others."""

    store: Subject
    bucket: str
    name: str

    @property
    def client(self) -> Minio:
        """The store with the credentials it was given."""
        return self.store.client()

    @property
    def access_key(self) -> str:
        """The access key that is made and deleted again; MinIO takes at most 20 characters."""
        return f"check{self.name[-8:]}"

    @property
    def second_bucket(self) -> str:
        """A bucket beside the first, that the key must not get into."""
        return f"{self.name}-beside"

    def key(self, name: str) -> str:
        """An object's name in the trial's own folder."""
        return f"{PREFIX}{self.name}/{name}"

    def request(
        self, method: str, key: str = "", *, query: str = "", headers: Mapping[str, str] | None = None, body: bytes = b"", sha256: str = ""
    ) -> Any:
        """A signed request that the SDK does not make; `sha256` is what is signed in the place of the body's. Any status is an answer."""
        from minio.credentials.credentials import Credentials
        from minio.signer import sign_v4_s3
        from minio.time import to_amz_date, utcnow

        access_key, secret_key = self.store.keys()
        base = urlsplit(self.store.endpoint)
        url = SplitResult(base.scheme, base.netloc, f"/{self.bucket}" + (f"/{quote(key)}" if key else ""), query, "")
        now = utcnow()
        content = sha256 or hashlib.sha256(body).hexdigest()
        told: dict[str, Any] = {"Host": base.netloc, "x-amz-date": to_amz_date(now), "x-amz-content-sha256": content, **(headers or {})}
        signed = sign_v4_s3(
            method=method,
            url=url,
            region=self.store.region,
            headers=told,
            credentials=Credentials(access_key, secret_key.reveal()),
            content_sha256=content,
            date=now,
        )
        return self.store.http().request(method, url.geturl(), body=body, headers=signed)


@dataclass(frozen=True)
class Feature:
    """One thing that a store must do. `check` raises Refusal, or whatever the SDK raises, where it does not."""

    name: str
    needed_for: str
    check: Callable[[Trial], None]
    fatal: bool = True


def must(holds: bool, otherwise: str) -> None:
    """Raises Refusal."""
    if not holds:
        raise Refusal(otherwise)


def answered(answer: Any, *statuses: int) -> None:
    """Raises Refusal where the answer has another status."""
    if answer.status not in statuses:
        code = (answer.data or b"").decode(errors="replace").partition("<Code>")[2].partition("</Code>")[0]
        raise Refusal(f"it answers {answer.status}{f' {code}' if code else ''}")


def read(client: Minio, bucket: str, key: str, **options: Any) -> bytes:
    """An object's content."""
    answer = client.get_object(bucket, key, **options)
    try:
        return bytes(answer.read())
    finally:
        answer.close()
        answer.release_conn()


def refused(call: Callable[[], object], otherwise: str) -> None:
    """Raises Refusal where the store lets somebody do what must be refused."""
    from minio.error import MinioAdminException, S3Error

    try:
        call()
    except StoreRefused:
        return
    except S3Error as failed:
        must(failed.response.status in (400, 401, 403), f"it answers {failed.response.status} {failed.code} in the place of a refusal")
        return
    except MinioAdminException:
        return
    raise Refusal(otherwise)


def attempt(check: Callable[[], None]) -> str | None:
    """What went wrong in words, None where all is well. Raises StoreUnreachable where nothing answers."""
    from minio.error import MinioException, S3Error, ServerError
    from urllib3.exceptions import HTTPError

    try:
        check()
    except Refusal as failed:
        return str(failed)
    except S3Error as failed:
        return f"it answers {failed.response.status} {failed.code}: {failed.message}"
    except ServerError as failed:
        return f"it answers {failed.status_code}"
    except HTTPError as failed:
        raise StoreUnreachable(f"the object store stopped answering: {_short(failed)}", "look at `mlflow-onprem logs minio`") from failed
    except StoreForeign as failed:
        return f"it has no administration as MinIO has it: {_short(failed.__cause__ or failed)}"
    except StoreUnreachable:
        raise
    except (OnPremError, MinioException, ValueError, KeyError) as failed:
        return f"it does not answer as S3 does: {_short(failed)}"
    return None


def _short(failed: BaseException) -> str:
    return " ".join(str(failed).split())[:200]
