"""The bucket for artifacts, and the access key that may use it and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mlflow_onprem.clients.bucket_policy import bucket_policy
from mlflow_onprem.clients.object_store import ObjectStore
from mlflow_onprem.clients.store_errors import StoreRefused, StoreUnreachable
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base, Text, Unknown
from mlflow_onprem.core.secret import Secret

NOT_RUNNING = "the object store is not running here yet"
NOT_ROOT = Unknown("only root may look into the object store", hidden=True)


@dataclass(frozen=True)
class BucketState:
    """It exists."""

    name: str


@dataclass(frozen=True)
class Bucket(Base):
    """A bucket; it holds data."""

    store: ObjectStore
    bucket: str
    want: BucketState | None

    @property
    def name(self) -> str:
        return f"bucket:{self.bucket}"

    def observe(self, host: Host) -> BucketState | Unknown | None:
        if not host.is_root:
            return NOT_ROOT
        try:
            return BucketState(self.bucket) if self.store.has_bucket(self.bucket) else None
        except (StoreUnreachable, StoreRefused):
            return Unknown(NOT_RUNNING)

    def apply(self, host: Host, have: BucketState | None) -> None:
        if self.want is None:
            self.store.remove_bucket(self.bucket)
        else:
            self.store.make_bucket(self.want.name)


@dataclass(frozen=True)
class AccessKeyState:
    """What the key may do, and that its secret is the one we hold."""

    policy: Text
    secret: Secret


@dataclass(frozen=True)
class AccessKey(Base):
    """An access key of the object store with a policy of its own."""

    store: ObjectStore
    access_key: str
    bucket: str
    want: AccessKeyState | None

    @property
    def name(self) -> str:
        return f"access-key:{self.access_key}"

    def observe(self, host: Host) -> AccessKeyState | Unknown | None:
        if not host.is_root:
            return NOT_ROOT
        try:
            policy = self.store.key_policy(self.access_key)
            if policy is None:
                return None
            wanted = self.want.secret if self.want is not None else Secret("")
            works = self.want is not None and self.store.key_works(self.access_key, wanted, self.bucket)
            return AccessKeyState(policy_text(policy), wanted if works else Secret("another"))
        except (StoreUnreachable, StoreRefused):
            return Unknown(NOT_RUNNING)

    def apply(self, host: Host, have: AccessKeyState | None) -> None:
        if have is not None:
            self.store.remove_key(self.access_key)
        if self.want is not None:
            self.store.add_key(self.access_key, self.want.secret, bucket_policy(self.bucket))


def policy_text(policy: dict[str, object]) -> Text:
    """A policy in one spelling: the store answers with its own order of keys and of members."""
    statements = policy.get("Statement")
    rows = []
    for statement in statements if isinstance(statements, list) else []:
        rows.append({key: sorted(value) if isinstance(value, list) else value for key, value in statement.items()})
    return Text(json.dumps(rows, indent=1, sort_keys=True))
