"""Addresses of artifacts in MLflow's tables: the store's own, for clients with its keys, or the server's, for everybody."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.clients.sql import Sql, SqlError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base, Unknown


@dataclass(frozen=True)
class RootsState:
    """Addresses of artifacts as the old server wrote them: for a client with the store's own keys, or on its disk."""

    addresses_of_the_old_server: int = 0


#: How an address behind a server begins.
PROXIED = "mlflow-artifacts:"
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
    """No address in MLflow's tables begins as the old server wrote it: `roots` are such beginnings, each with the one of this stack.

    Behind the server itself (`mlflow-artifacts:/`) clients need nothing but the tracking address.
    """

    sql: Sql
    database: str
    roots: tuple[tuple[str, str], ...]
    want: RootsState | None = RootsState()

    @property
    def name(self) -> str:
        return f"artifact-addresses:{self.database}"

    def observe(self, host: Host) -> RootsState | Unknown | None:
        if not host.is_root:
            return Unknown("only root may look into PostgreSQL", hidden=True)
        try:
            return RootsState(sum(count(self.sql, self.database, place, old, new) for place in PLACES for old, new in self.roots))
        except SqlError as failed:
            if failed.unreachable:
                return Unknown("PostgreSQL is not running here yet")
            raise

    def apply(self, host: Host, have: RootsState | None) -> None:
        for old, new in self.roots:
            for place in PLACES:
                if count(self.sql, self.database, place, old, new):
                    table, column, condition = place
                    # Only the beginning: what follows it is the path in the bucket.
                    path = "ltrim(substr({column}, length({old}) + 1), '/')"
                    statement = "UPDATE {table} SET {column} = {new} || " + path + " WHERE " + _matches(condition)  # noqa: S608  # constants
                    self.sql.query(self.database, statement, {"table": table, "column": column}, {"old": old, "new": new})


def count(sql: Sql, database: str, place: tuple[str, str, str], old: str, new: str = "") -> int:
    """How many addresses in one of PLACES begin with `old`, and not with `new`. Raises SqlError."""
    table, column, condition = place
    if not sql.query(database, "SELECT to_regclass({table})", literals={"table": table})[0][0]:
        return 0
    statement = "SELECT count(*) FROM {table} WHERE " + _matches(condition)  # noqa: S608  # constants
    return int(sql.query(database, statement, {"table": table, "column": column}, {"old": old, "new": new or " "})[0][0])


def _matches(condition: str) -> str:
    return "({column} = {old} OR starts_with({column}, {old} || '/')) AND NOT starts_with({column}, {new})" + condition
