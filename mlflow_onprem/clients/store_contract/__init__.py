"""What this stack needs of an S3 store, each feature tried for real: whichever store it is, nothing is built on one that lacks one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from mlflow_onprem.clients.store_contract.administration import ADMINISTRATION
from mlflow_onprem.clients.store_contract.objects import OBJECTS
from mlflow_onprem.clients.store_contract.presigned import PRESIGNED
from mlflow_onprem.clients.store_contract.trial import Feature, Subject, Trial, attempt

#: Changes whenever a feature is added or tried in another way: stores that were proven before are proven again.
REVISION = "1"


@dataclass(frozen=True)
class Lack:
    """A feature that a store does not have: what it is needed for, and what the store did instead. Without a `fatal` one nothing works."""

    feature: str
    needed_for: str
    seen: str
    fatal: bool


def features(*, administered: bool, presigned: bool) -> tuple[Feature, ...]:
    """What is tried: of a store that we administer all of it, of another one what is used there."""
    return (*OBJECTS, *(PRESIGNED if presigned or administered else ()), *(ADMINISTRATION if administered else ()))


def try_out(store: Subject, name: str, bucket: str | None, *, presigned: bool) -> tuple[Lack, ...]:
    """Try every feature that is used of a store, in a folder of `bucket`, or (None) in buckets of the trial's own, as its administrator.

    What a trial of that name left that was killed is removed first, and this one leaves nothing. Raises StoreUnreachable, StoreRefused.
    """
    forget(store, name, bucket)
    trial = Trial(store, bucket or name, name)
    try:
        if bucket is None and (seen := attempt(lambda: store.make_bucket(name))) is not None:
            return (Lack("buckets", "a bucket for all artifacts", seen, fatal=True),)
        return lacks(trial, features(administered=bucket is None, presigned=presigned))
    finally:
        forget(store, name, bucket)


def lacks(trial: Trial, wanted: Iterable[Feature]) -> tuple[Lack, ...]:
    """Try each feature. Raises StoreUnreachable where nothing answers."""
    found = []
    for each in wanted:
        seen = attempt(partial(each.check, trial))
        if seen is not None:
            found.append(Lack(each.name, each.needed_for, seen, each.fatal))
    return tuple(found)


def forget(store: Subject, name: str, bucket: str | None) -> None:
    """Remove what a trial of that name made. A store that cannot do that is named by the trial. Raises StoreUnreachable."""
    trial = Trial(store, bucket or name, name)
    if bucket is not None:
        attempt(lambda: _forget_objects(trial))
        return
    for each in (name, trial.second_bucket):
        attempt(partial(_forget_bucket, store, each))
    attempt(lambda: store.remove_key(trial.access_key))


def _forget_bucket(store: Subject, bucket: str) -> None:
    if store.has_bucket(bucket):
        store.remove_bucket(bucket)


def _forget_objects(trial: Trial) -> None:
    from minio.deleteobjects import DeleteObject

    listed = trial.client.list_objects(trial.bucket, prefix=trial.key(""), recursive=True)
    for _failed in trial.client.remove_objects(trial.bucket, [DeleteObject(each.object_name or "") for each in listed]):
        pass


__all__ = ["REVISION", "Feature", "Lack", "Trial", "features", "forget", "lacks", "try_out"]
