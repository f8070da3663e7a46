"""Which store and which PostgreSQL a configuration means, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest

from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.topology import ExternalPostgres, ExternalStore, LocalPostgres, LocalStore
from tests.fake_machine import CREDENTIALS, EXTERNAL, config

UNIT = "postgresql@15-main.service"


def test_both_are_ours_by_default() -> None:
    store, sql = topology.store(Config().minio), topology.postgres(Config())
    assert isinstance(store, LocalStore)
    assert (store.endpoint, store.folders, store.units) == ("http://127.0.0.1:9000", ("/opt/minio/data",), ("minio.service",))
    assert store.administrator(CREDENTIALS) == (CREDENTIALS.minio_root_user, CREDENTIALS.minio_root_password)
    assert isinstance(sql, LocalPostgres)
    assert (sql.databases, sql.role, sql.port) == (("mlflow", "mlflow_auth"), "mlflow_user", 5432)
    assert sql.uri("mlflow") == "postgresql+psycopg://mlflow_user@/mlflow?host=/var/run/postgresql&port=5432"
    assert topology.units(Config(), UNIT) == {"minio.service": "minio", UNIT: "postgres", "mlflow.service": "mlflow"}


def test_somebody_elses_have_nothing_on_this_host() -> None:
    wanted = config(EXTERNAL)
    store, sql = topology.store(wanted.minio), topology.postgres(wanted)
    assert isinstance(store, ExternalStore)
    assert (store.endpoint, store.folders, store.units, store.ports, store.binds) == ("https://s3.example.com", (), (), (), ())
    assert store.administrator(CREDENTIALS) == (CREDENTIALS.s3_access_key, CREDENTIALS.s3_secret_key)
    assert isinstance(sql, ExternalPostgres)
    assert (sql.databases, sql.role, sql.host, sql.port, sql.ports) == (("tracking", "mlflow_auth"), "tracker", "db.example.com", 6432, ())
    assert sql.uri("tracking") == "postgresql+psycopg://tracker@db.example.com:6432/tracking?sslmode=require"
    assert topology.units(wanted, None) == {"mlflow.service": "mlflow"}


@pytest.mark.parametrize("values", [{}, EXTERNAL])
def test_who_logs_in_with_a_password_does_so_over_tcp_and_it_never_shows(values: dict[str, Any]) -> None:
    login = topology.postgres(config(values)).login(Secret("CANARY"))
    assert str(login["host"])[0] != "/"
    assert "CANARY" not in repr(login)
    assert login.get("sslmode") == ("require" if values else None)


@pytest.mark.parametrize(
    ("bind", "endpoint"),
    [
        ("0.0.0.0", "http://127.0.0.1:9000"),
        ("10.0.0.5", "http://10.0.0.5:9000"),
        ("::", "http://[::1]:9000"),
        ("fd00::5", "http://[fd00::5]:9000"),
    ],
)
def test_where_this_host_reaches_its_own_store(bind: str, endpoint: str) -> None:
    assert topology.store(config({"minio": {"bind": bind}}).minio).endpoint == endpoint


def test_folders_with_objects_are_those_of_this_host() -> None:
    volumes = ["/mnt/a", "/mnt/b", "http://other:9000/mnt/c", "/mnt/{1...4}"]
    assert topology.store(config({"minio": {"volumes": volumes}}).minio).folders == ("/mnt/a", "/mnt/b")


def test_without_accounts_there_is_no_database_of_theirs() -> None:
    assert topology.postgres(config({"mlflow": {"auth": {"enabled": False}}})).databases == ("mlflow",)
