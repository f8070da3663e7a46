"""Tries secrets for real, with the command's own Python: a credentials file's text on standard input, for each secret whether it is accepted."""

import json
import sys

import psycopg
import requests

from mlflow_onprem.clients.object_store import MinioStore
from mlflow_onprem.clients.store_errors import StoreRefused
from mlflow_onprem.core.secret import Secret

ENDPOINT = "http://127.0.0.1:9000"
LOGINS = 12  # each over a connection of its own, so that every worker is asked


def store_lets_in(key: str, secret: str) -> bool:
    """Whether the bucket can be seen."""
    try:
        return MinioStore(ENDPOINT, key, Secret(secret)).has_bucket("mlflow")
    except StoreRefused:
        return False


def postgres_lets_in(password: str) -> bool:
    """Over TCP."""
    try:
        psycopg.connect(host="127.0.0.1", dbname="mlflow", user="mlflow_user", password=password).close()
    except psycopg.OperationalError:
        return False
    return True


def mlflow_lets_in(name: str, password: str) -> bool:
    """By any of its workers."""
    url, query = "http://127.0.0.1:5000/api/2.0/mlflow/users/get", {"username": name}
    return any(requests.get(url, params=query, auth=(name, password), timeout=60).status_code == 200 for _ in range(LOGINS))


if __name__ == "__main__":
    found = json.load(sys.stdin)
    print(
        json.dumps(
            {
                "s3": store_lets_in(found["s3_access_key"], found["s3_secret_key"]),
                "root": store_lets_in(found["minio_root_user"], found["minio_root_password"]),
                "role": postgres_lets_in(found["postgres_password"]),
                "administrator": mlflow_lets_in(found["mlflow_admin"], found["mlflow_admin_password"]),
            }
        )
    )
