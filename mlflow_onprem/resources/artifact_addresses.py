"""Addresses of artifacts in MLflow's tables: the store's own, for clients with its keys, or the server's, for everybody."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.host import Host
from mlflow_onprem.resource import Base, Unknown
from mlflow_onprem.sql import Sql, SqlError


@dataclass(frozen=True)
class RootsState:
    """Addresses of artifacts that only a client with the store's own keys can use."""

    addresses_only_for_clients_with_the_stores_keys: int = 0


#: Where MLflow keeps addresses of artifacts: table, column, and what else must hold.
PLACES = (
    ("experiments", "artifact_location", ""),
    ("runs", "artifact_uri", ""),
    ("logged_models", "artifact_location", ""),
    ("model_versions", "source", ""),
    ("model_versions", "storage_location", ""),
    ("trace_tags", "value", " AND key = 'mlflow.artifactLocation'"),
)


@dataclass(frozen=True)
class ProxiedRoots(Base):
    """Every address `s3://BUCKET/...` in MLflow's tables is one of the server itself: then clients need nothing but the tracking address."""

    sql: Sql
    database: str
    bucket: str
    want: RootsState | None = RootsState()

    @property
    def name(self) -> str:
        return f"artifact-addresses:{self.database}"

    def observe(self, host: Host) -> RootsState | Unknown | None:
        if not host.is_root:
            return Unknown("only root may look into PostgreSQL", hidden=True)
        try:
            return RootsState(sum(self._count(*place) for place in PLACES))
        except SqlError as failed:
            if failed.unreachable:
                return Unknown("PostgreSQL is not running here yet")
            raise

    def apply(self, host: Host, have: RootsState | None) -> None:
        for table, column, condition in PLACES:
            if self._count(table, column, condition):
                # Only the beginning: what follows the bucket's name is the path behind the server.
                path = "ltrim(substr({column}, length({root}) + 1), '/')"
                statement = "UPDATE {table} SET {column} = 'mlflow-artifacts:/' || " + path + " WHERE " + _matches(condition)  # noqa: S608  # constants
                self.sql.query(self.database, statement, {"table": table, "column": column}, {"root": f"s3://{self.bucket}"})

    def _count(self, table: str, column: str, condition: str) -> int:
        if not self.sql.query(self.database, "SELECT to_regclass({table})", literals={"table": table})[0][0]:
            return 0
        statement = "SELECT count(*) FROM {table} WHERE " + _matches(condition)  # noqa: S608  # constants
        return int(self.sql.query(self.database, statement, {"table": table, "column": column}, {"root": f"s3://{self.bucket}"})[0][0])


def _matches(condition: str) -> str:
    return "({column} = {root} OR starts_with({column}, {root} || '/'))" + condition
