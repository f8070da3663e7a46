"""What a rotation tries for real: that the new secrets carry a file through the proxy, and that the old ones are refused."""

from __future__ import annotations

import secrets

from mlflow_onprem.clients.mlflow_api import ApiError, MlflowApi
from mlflow_onprem.clients.object_store import MinioStore
from mlflow_onprem.clients.sql import SqlError
from mlflow_onprem.clients.store_errors import StoreRefused
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.credentials import ROOT
from mlflow_onprem.settings.topology import LocalStore
from mlflow_onprem.stack.assembly import Assembly, login
from mlflow_onprem.stack.mlflow_connection import local_url
from mlflow_onprem.system.local_host import LocalHost

FOLDER = "mlflow-onprem-proof"
SIZE = 1 << 16
TIMEOUT = 120.0  # seconds for one request; the server itself waits for the store
TRIES = 8  # logins with a password that must not work, each over a connection of its own: several for every worker


def in_use(assembly: Assembly) -> None:
    """Upload a file through MLflow's proxy, fetch it back, remove it. Raises OnPremError where its bytes are not the same."""
    import requests

    found, config = assembly.credentials, assembly.config
    url = f"{local_url(config)}/api/2.0/mlflow-artifacts/artifacts/{FOLDER}/{secrets.token_hex(8)}"
    content = secrets.token_bytes(SIZE)
    with requests.Session() as session:
        session.trust_env = False
        if config.mlflow.auth.enabled:
            session.auth = (found.mlflow_admin, found.mlflow_admin_password.reveal())
        try:
            sent = session.put(url, data=content, timeout=TIMEOUT)
            fetched = session.get(url, timeout=TIMEOUT)
            removed = session.delete(url, timeout=TIMEOUT)
        except requests.RequestException as failed:
            raise OnPremError(f"MLflow broke off while a file was stored with the new secrets: {type(failed).__name__}", LOGS) from None
    if fetched.status_code != 200 or fetched.content != content:
        answers = f"it answered HTTP {sent.status_code} to the upload and {fetched.status_code} to the download"
        raise OnPremError(f"a file stored through MLflow with the new secrets did not come back: {answers}", LOGS)
    if removed.status_code != 200:
        raise OnPremError(f"a file stored through MLflow could not be removed: it answered HTTP {removed.status_code}", LOGS)


LOGS = "see why: mlflow-onprem logs mlflow"


def withdrawn(host: LocalHost, assembly: Assembly) -> list[str]:
    """Names of the secrets of the other generation that were tried and refused. Raises OnPremError where one is still accepted."""
    found, config = assembly.credentials, assembly.config
    rotation = found.rotation
    assert rotation is not None
    other, refused = rotation.other, []
    if isinstance(topology.store(config.minio), LocalStore) and other.s3_access_key != found.s3_access_key:
        _must(not assembly.to.store.key_works(other.s3_access_key, other.s3_secret_key, config.minio.bucket), "S3 access key")
        refused.append("s3-access-key")
    if other.postgres_password != found.postgres_password and logs_in(host, assembly, found.postgres_password):
        _must(not logs_in(host, assembly, other.postgres_password), "password of the PostgreSQL role")
        refused.append("postgres-password")
    if config.mlflow.auth.enabled and other.mlflow_admin_password != found.mlflow_admin_password:
        _must(not any(_administers(assembly, other.mlflow_admin_password) for _ in range(TRIES)), "password of MLflow's administrator")
        refused.append("mlflow-admin-password")
    # Before its own step, at the very end, the other root password is the one to come.
    if rotation.stage.value == "root" and isinstance(topology.store(config.minio), LocalStore) and ROOT in rotation.scope:
        store = MinioStore(topology.store(config.minio).endpoint, other.minio_root_user, other.minio_root_password, config.minio.region)
        try:
            _must(not store.has_bucket(config.minio.bucket), "root password of the object store")
        except StoreRefused:
            refused.append("minio-root-password")
    return refused


def _must(dead: bool, what: str) -> None:
    if not dead:
        raise OnPremError(f"the {what} that was withdrawn is still accepted", "look for a second server that answers on that port")


def logs_in(host: LocalHost, assembly: Assembly, password: Secret) -> bool:
    """Whether PostgreSQL lets MLflow's role in with this password."""
    session = login(host, assembly.config, password)
    try:
        session.query(topology.postgres(assembly.config).database, "SELECT 1")
    except SqlError:
        return False
    finally:
        session.close()
    return True


def _administers(assembly: Assembly, password: Secret) -> bool:
    name = assembly.credentials.mlflow_admin
    try:
        MlflowApi(local_url(assembly.config), name, password).call("GET", "2.0/mlflow/users/get", query={"username": name})
    except ApiError as refused:
        if refused.status == 401:
            return False
        raise
    return True
