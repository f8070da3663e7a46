"""The proof that the store can do what is used of it: tried once for each program or address, before anything is built on it."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from mlflow_onprem.clients.object_store import ObjectStore
from mlflow_onprem.clients.store_contract import REVISION, Lack
from mlflow_onprem.core.errors import NotVisible, OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base

NOTE = "/var/lib/mlflow-onprem/store-features.json"


@dataclass(frozen=True)
class StoreFeaturesState:
    """The store whose features were tried, by its program or its address."""

    tried: str


@dataclass(frozen=True)
class StoreFeatures(Base):
    """Every feature that is used was tried here. `bucket` is None where we administer the store: then it is tried in buckets of its own."""

    store: ObjectStore
    bucket: str | None
    presigned: bool
    want: StoreFeaturesState | None

    @property
    def name(self) -> str:
        return "store-features"

    def observe(self, host: Host) -> StoreFeaturesState | None:
        tried = _note(host).get("tried")
        return StoreFeaturesState(str(tried)) if tried is not None else None

    def apply(self, host: Host, have: StoreFeaturesState | None) -> None:
        if self.want is None:
            host.remove(NOTE)
            return
        # Noted first: a trial that is killed is cleaned up by the next one, under the same name.
        trial = str(_note(host).get("trial") or f"mlflow-onprem-check-{secrets.token_hex(4)}")
        _write(host, {"trial": trial})
        lacks = self.store.lacks(trial, self.bucket, presigned=self.presigned)
        if fatal := [each for each in lacks if each.fatal]:
            raise _refusal(self.want.tried, fatal, administered=self.bucket is None)
        _write(host, {"tried": self.want.tried, "lacks": [[each.feature, each.needed_for, each.seen] for each in lacks]})


def wanted(store: str, *, presigned: bool) -> StoreFeaturesState:
    """The state for a store; one that was tried by another set of features, or not for presigned URLs, is tried again."""
    return StoreFeaturesState(f"{store}, {'with presigned URLs, ' if presigned else ''}check {REVISION}")


def tolerated(host: Host) -> list[tuple[str, str, str]] | None:
    """What the store lacks although it can be used: feature, what it is needed for, what was seen. None where it was not tried yet."""
    note = _note(host)
    if "tried" not in note:
        return None
    return [(str(feature), str(needed_for), str(seen)) for feature, needed_for, seen in note.get("lacks", [])]


def _refusal(store: str, lacks: list[Lack], *, administered: bool) -> OnPremError:
    rows = "\n".join(f"- {each.feature} ({each.needed_for}): {each.seen}" for each in lacks)
    number = f"{len(lacks)} thing{'s' if len(lacks) != 1 else ''}"
    other = (
        'choose another one in [minio] of /etc/mlflow-onprem/config.toml: distribution = "silo", "minio" or "source", or url and sha256'
        if administered
        else "use another store, or have its administrator look at these; [minio] of /etc/mlflow-onprem/config.toml names the store"
    )
    return OnPremError(
        f"the object store ({store.rpartition(', check')[0]}) cannot do {number} that this stack needs:\n{rows}",
        f"nothing was stored in it yet; {other}, then run this again",
    )


def _note(host: Host) -> dict[str, Any]:
    try:
        found = json.loads(host.read(NOTE) or b"{}")
    except (ValueError, NotVisible):
        return {}
    return found if isinstance(found, dict) else {}


def _write(host: Host, content: dict[str, Any]) -> None:
    host.write(NOTE, (json.dumps(content) + "\n").encode(), mode=0o644, owner="root", group="root")
