"""What mlflow-onprem needs of an S3 store, against any that you point it at (an administered MinIO or fork is tried as its administrator):

    MLFLOW_ONPREM_STORE_ENDPOINT=http://127.0.0.1:9000 MLFLOW_ONPREM_STORE_ACCESS_KEY=... MLFLOW_ONPREM_STORE_SECRET_KEY=... \\
        [MLFLOW_ONPREM_STORE_REGION=us-east-1] [MLFLOW_ONPREM_STORE_BUCKET=one-that-is-there] .venv/bin/python -m pytest tests/store_contract.py

With a bucket only what is used of an external store is tried, in a folder of its own in that bucket. Nothing stays behind.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from mlflow_onprem.clients import store_contract
from mlflow_onprem.clients.object_store import MinioStore
from mlflow_onprem.core.secret import Secret

BUCKET = os.environ.get("MLFLOW_ONPREM_STORE_BUCKET")


@pytest.fixture(scope="session")
def trial() -> Iterator[store_contract.Trial]:
    """The store that the environment names."""
    missing = [name for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY") if f"MLFLOW_ONPREM_STORE_{name}" not in os.environ]
    if missing:
        pytest.fail(f"set MLFLOW_ONPREM_STORE_{missing[0]} (see the beginning of this file)")
    endpoint, key, secret = (os.environ[f"MLFLOW_ONPREM_STORE_{name}"] for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY"))
    store = MinioStore(endpoint, key, Secret(secret), os.environ.get("MLFLOW_ONPREM_STORE_REGION", "us-east-1"))
    name = f"mlflow-onprem-check-{secrets.token_hex(4)}"
    if BUCKET is None:
        store.make_bucket(name)
    yield store_contract.Trial(store, BUCKET or name, name)
    store_contract.forget(store, name, BUCKET)


@pytest.mark.parametrize("feature", store_contract.features(administered=BUCKET is None, presigned=True), ids=lambda feature: feature.name)
def test_the_store_has(feature: store_contract.Feature, trial: store_contract.Trial) -> None:
    for lack in store_contract.lacks(trial, [feature]):
        pytest.fail(f"needed for: {lack.needed_for}\n{lack.seen}", pytrace=False)
