"""MLflow's tables: migrated once, by us, before any worker starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_onprem.clients.sql import Sql, SqlError
from mlflow_onprem.core.errors import CommandFailed, OnPremError, Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base, Unknown

MISSING = ("3D000", "42P01")  # no such database, no such table
#: Where only the environment itself knows its newest revision.
NEWEST = "this MLflow's newest"


@dataclass(frozen=True)
class SchemaState:
    """The Alembic revision of the tracking tables and, with accounts, of the accounts' tables and who administers them."""

    tracking: str
    auth: str | None
    administrator: bool


@dataclass(frozen=True)
class Schema(Base):
    """Tables at the revision that the installed MLflow wants, with experiment 0 and the administrator's account.

    `steps` are all tracking revisions up to that one, oldest first, as far as known. Tables that exist are brought to another revision only
    with `may_migrate`: there is no way back but a copy of the database, and who allows it has made one.
    """

    sql: Sql
    tracking_database: str
    auth_database: str | None
    administrator: str
    python: str
    environment: tuple[tuple[str, str], ...]
    want: SchemaState | None
    user: str = "mlflow"
    steps: tuple[str, ...] = ()
    may_migrate: bool = False

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
        if tracking is None:
            return None
        if self.want is not None and self.want.tracking == NEWEST:
            newest = self.ask_environment(host)
            tracking = NEWEST if newest and tracking == newest["tracking"]["head"] else tracking
            auth = NEWEST if auth and newest and newest["auth"] and auth == newest["auth"]["head"] else auth
        return SchemaState(tracking, auth or None, bool(admin))

    def ask_environment(self, host: Host) -> Mapping[str, Any] | None:
        """What the environment's MLflow says of both schemas: current, head, and steps, oldest first; None while it is not there."""
        if host.stat(self.python) is None:
            return None
        try:
            return json.loads(self._run(host, ["--check"], timeout=60))  # type: ignore[no-any-return]
        except CommandFailed:
            return None

    def migrations_ahead(self, revision: str) -> int | None:
        """How many migrations lead from a tracking revision to the wanted one; None where it is not on the way: newer, or another program's."""
        return len(self.steps) - 1 - self.steps.index(revision) if revision in self.steps else None

    def check_may_change(self, have: SchemaState | None) -> None:
        """Raises Refused where existing tables would have to be migrated and nobody allowed it, or are ahead of this MLflow."""
        if have is None or self.want is None:
            return
        same = have.tracking == self.want.tracking and (have.auth is None or self.want.auth is None or have.auth == self.want.auth)
        if same:
            return
        if self.steps and self.migrations_ahead(have.tracking) is None:
            raise Refused(
                f"the tables in database {self.tracking_database} are at revision {have.tracking}, which the wanted MLflow does not know: "
                "a later one made them",
                "set mlflow.version to the version that ran here last (`sudo mlflow-onprem backup list --json` shows it), or use the newest "
                "mlflow-onprem",
            )
        if not self.may_migrate:
            raise Refused(
                f"the tables in database {self.tracking_database} are of an older MLflow (revision {have.tracking}); bringing them to the wanted one "
                "is an upgrade, with a way back, and install does not do that by the way",
                "see what it means: sudo mlflow-onprem upgrade --check; then: sudo mlflow-onprem upgrade",
            )

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
        self.check_may_change(have)
        hint = "nothing is lost: a migration is one transaction. Fix the cause above, then run this again"
        self._run(host, [], timeout=86_400, hint=hint)

    def _run(self, host: Host, options: list[str], *, timeout: float, hint: str = "") -> str:
        argv = [self.python, "-m", "mlflow_onprem_server.schema", *options]
        return host.run(argv, user=self.user, env={**dict(self.environment), "HOME": "/var/lib/mlflow"}, timeout=timeout, hint=hint, tied=True).out
