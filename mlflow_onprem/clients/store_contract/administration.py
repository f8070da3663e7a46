"""What is asked of a store that runs here and is administered by us: buckets, versions, access keys with a policy, its own health."""

from __future__ import annotations

import io
import secrets

from mlflow_onprem.clients.bucket_policy import bucket_policy
from mlflow_onprem.clients.store_contract.trial import Feature, Trial, answered, must, read, refused
from mlflow_onprem.core.secret import Secret

#: What MinIO starts with where nobody gives it another account.
FACTORY = "minioadmin"


def _root(trial: Trial) -> None:
    access_key, _ = trial.store.keys()
    must(access_key != FACTORY, f"its administrator is {FACTORY}: it did not read the files with its root account")
    factory = trial.store.client(FACTORY, Secret(FACTORY))
    refused(factory.list_buckets, f"it lets {FACTORY}:{FACTORY} in: it did not read the files with its root account")


def _versions(trial: Trial) -> None:
    """All that `uninstall --purge-data` has to find and delete."""
    from minio.commonconfig import ENABLED
    from minio.deleteobjects import DeleteObject
    from minio.versioningconfig import VersioningConfig

    client, bucket = trial.client, trial.second_bucket
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket, location=trial.store.region)
    client.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    for content in (b"first", b"second"):
        client.put_object(bucket, "versions", io.BytesIO(content), len(content))
    client.remove_object(bucket, "versions")
    found = list(client.list_objects(bucket, recursive=True, include_version=True))
    must(len(found) == 3, f"an object written twice and deleted is listed with {len(found)} versions, 3 are expected")
    oldest = [each for each in found if not each.is_delete_marker][-1]
    must(read(client, bucket, "versions", version_id=oldest.version_id) == b"first", "an older version comes back with other bytes")
    failed = list(client.remove_objects(bucket, [DeleteObject(each.object_name or "", each.version_id) for each in found]))
    must(not failed, f"a version cannot be deleted: {failed[0].code}" if failed else "")
    must(not list(client.list_objects(bucket, recursive=True, include_version=True)), "versions that were deleted are still listed")
    client.remove_bucket(bucket)
    must(not client.bucket_exists(bucket), "a bucket that was removed is still there")


def _access_keys(trial: Trial) -> None:
    """A key for one bucket and nothing else, as MLflow has it; its policy names the bare ARN (advisory SN-2026-004)."""
    store, secret = trial.store, Secret(secrets.token_urlsafe(24))
    other, policy = trial.second_bucket, bucket_policy(trial.bucket)
    if not trial.client.bucket_exists(other):
        trial.client.make_bucket(other, location=store.region)
    store.add_key(trial.access_key, secret, policy)
    kept = store.key_policy(trial.access_key)
    must(_resources(kept) == _resources(policy), "an access key is told to have another policy than it was given")
    client = store.client(trial.access_key, secret)
    key = trial.key("by-a-key")
    client.put_object(trial.bucket, key, io.BytesIO(b"by a key"), 8)
    must(read(client, trial.bucket, key) == b"by a key", "what an access key stored comes back with other bytes")
    listed = [each.object_name for each in client.list_objects(trial.bucket, prefix=key)]
    must(listed == [key], "an access key whose policy names the bucket cannot list it")
    refused(lambda: client.put_object(other, "x", io.BytesIO(b"x"), 1), "an access key for one bucket may write to another one")
    refused(lambda: list(client.list_objects(other)), "an access key for one bucket may list another one")
    refused(lambda: client.make_bucket(f"{trial.name}-by-a-key"), "an access key for one bucket may make others")
    store.remove_key(trial.access_key)
    must(store.key_policy(trial.access_key) is None, "an access key that was deleted is still there")
    refused(lambda: read(client, trial.bucket, key), "an access key that was deleted still works")
    trial.client.remove_bucket(other)


def _resources(policy: dict[str, object] | None) -> list[str]:
    statements = (policy or {}).get("Statement")
    found = [each.get("Resource") for each in statements] if isinstance(statements, list) else []
    return sorted(str(each) for some in found for each in (some if isinstance(some, list) else [some]))


def _health(trial: Trial) -> None:
    answered(trial.store.http().request("GET", f"{trial.store.endpoint.rstrip('/')}/minio/health/cluster"), 200)


ADMINISTRATION = (
    Feature("root account from files", "it never runs with a password that everybody knows", _root),
    Feature("listing with versions", "`uninstall --purge-data` removes everything", _versions),
    Feature("access keys with a policy", "MLflow's key opens one bucket and nothing else, and is replaced by rotate-credentials", _access_keys),
    Feature("health address", "`status` tells whether it really serves", _health),
)
