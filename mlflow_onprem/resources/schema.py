"""MLflow's tables: migrated once, by us, before any worker starts."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.errors import OnPremError
from mlflow_onprem.host import Host
from mlflow_onprem.resource import Base, Unknown
from mlflow_onprem.sql import Sql, SqlError

MISSING = ("3D000", "42P01")  # no such database, no such table


@dataclass(frozen=True)
class SchemaState:
    """The Alembic revision of the tracking tables and, with accounts, of the accounts' tables and who administers them."""

    tracking: str
    auth: str | None
    administrator: bool


@dataclass(frozen=True)
class Schema(Base):
    """Tables at the revision that the installed MLflow wants, with experiment 0 and the administrator's account."""

    sql: Sql
    tracking_database: str
    auth_database: str | None
    administrator: str
    python: str
    environment: tuple[tuple[str, str], ...]
    want: SchemaState | None
    user: str = "mlflow"

    @property
    def name(self) -> str:
        return f"schema:{self.tracking_database}"

    def observe(self, host: Host) -> SchemaState | Unknown | None:
        if not host.is_root:
            return Unknown("only root may look into PostgreSQL", hidden=True)
        try:
            tracking = self._one(self.tracking_database, "SELECT version_num FROM alembic_version")
            auth = self.auth_database and self._one(self.auth_database, "SELECT version_num FROM alembic_version_auth")
            who = {"name": self.administrator}
            admin = self.auth_database is None or self._one(
                self.auth_database, "SELECT username FROM users WHERE username = {name} AND is_admin", who
            )
        except SqlError as failed:
            if failed.sqlstate not in MISSING and failed.unreachable:
                return Unknown("PostgreSQL is not running here yet")
            raise
        return None if tracking is None else SchemaState(tracking, auth or None, bool(admin))

    def _one(self, database: str, statement: str, literals: dict[str, str] | None = None) -> str | None:
        try:
            rows = self.sql.query(database, statement, literals=literals)
        except SqlError as failed:
            if failed.sqlstate in MISSING:
                return None
            raise
        return str(rows[0][0]) if rows else None

    def apply(self, host: Host, have: SchemaState | None) -> None:
        if self.want is None:
            raise OnPremError("tables are removed with their database, not by themselves")
        host.run(
            [self.python, "-m", "mlflow_onprem_server.schema"],
            user=self.user,
            env={**dict(self.environment), "HOME": "/var/lib/mlflow"},
            timeout=3600,
            hint="nothing is lost: a migration is one transaction. Mend what it says, then run this again",
        )
