"""What a rotation wants of a running MLflow: the administrator's new password, and nothing left in the database that an older key encrypted."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mlflow_onprem.clients.mlflow_api import ApiError
from mlflow_onprem.clients.sql import Sql, SqlError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base, Unknown
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.database import scram_verifier

TIMEOUT = 600.0  # seconds, for all rows


class Api(Protocol):
    """MLflow's REST API with one account (mlflow_api.MlflowApi)."""

    def call(self, method: str, path: str, *, body: dict[str, Any] | None = None, query: dict[str, Any] | None = None) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Program:
    """A module of ours in MLflow's environment, run as MLflow's own account."""

    python: str
    environment: tuple[tuple[str, str], ...]
    user: str = "mlflow"

    def run(self, host: Host, module: str, *words: str, stdin: Secret | None = None) -> str:
        """Its standard output. Raises CommandFailed."""
        argv = [self.python, "-m", f"mlflow_onprem_server.{module}", *words]
        settings = {**dict(self.environment), "HOME": "/var/lib/mlflow"}
        return host.run(argv, user=self.user, env=settings, stdin=stdin, timeout=TIMEOUT, hint="nothing is lost; run this again").out


@dataclass(frozen=True)
class PasswordState:
    """The password that is accepted."""

    password: Secret


@dataclass(frozen=True)
class Administrator(Base):
    """The administrator's password, changed through MLflow's API with one of `known`; where none of them is let in, in MLflow's store of accounts."""

    username: str
    want: PasswordState | None
    known: tuple[Secret, ...]
    api: Callable[[Secret], Api]
    program: Program

    @property
    def name(self) -> str:
        return f"account:{self.username}"

    def observe(self, host: Host) -> PasswordState | Unknown | None:
        if not host.is_root:
            return Unknown("only root knows the administrator's password", hidden=True)
        if self.want is None:
            return None
        try:
            self.api(self.want.password).call("GET", "2.0/mlflow/users/get", query={"username": self.username})
        except ApiError as refused:
            if refused.status != 401:
                raise
            return PasswordState(Secret("another"))
        return self.want

    def apply(self, host: Host, have: PasswordState | None) -> None:
        if self.want is None:
            return
        new = self.want.password
        for old in self.known:
            body = {"username": self.username, "password": new.reveal(), "current_password": old.reveal()}
            try:
                self.api(old).call("PATCH", "2.0/mlflow/users/update-password", body=body)
            except ApiError as refused:
                # 400: let in by a worker that still remembers a password which counts no more.
                if refused.status not in (400, 401):
                    raise
            else:
                return
        self.program.run(host, "administrator", self.username, stdin=new)


@dataclass(frozen=True)
class ClosedState:
    """Rows of the database that only an older key opens."""

    with_older_keys: int


@dataclass(frozen=True)
class Closed(Base):
    """The gateway's and the webhooks' secrets, all encrypted with the key in use, so that the older one can go."""

    sql: Sql
    database: str
    program: Program
    want: ClosedState | None = ClosedState(0)

    @property
    def name(self) -> str:
        return f"closed-with-key-in-use:{self.database}"

    def observe(self, host: Host) -> ClosedState | Unknown | None:
        if not host.is_root:
            return Unknown("only root may look into PostgreSQL", hidden=True)
        if self.want is None:
            return None
        statement = "SELECT (SELECT count(*) FROM secrets) + (SELECT count(*) FROM webhooks WHERE secret IS NOT NULL)"
        try:
            rows = self.sql.query(self.database, statement)
        except SqlError as failed:
            if failed.unreachable:
                return Unknown("PostgreSQL is not running here yet")
            raise
        # Most hosts have none: then nothing is started to look at them.
        return ClosedState(json.loads(self.program.run(host, "rewrap", "--check"))["older"] if rows[0][0] else 0)

    def apply(self, host: Host, have: ClosedState | None) -> None:
        self.program.run(host, "rewrap")


class Session(Sql, Protocol):
    """A session of its own, to be closed."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class OwnPassword(Base):
    """The password of a role on a server that is not ours, which the role changes itself while the old one lets it in."""

    role: str
    database: str
    login: Callable[[Secret], Session]
    want: PasswordState | None
    known: tuple[Secret, ...]

    @property
    def name(self) -> str:
        return f"role:{self.role}"

    def observe(self, host: Host) -> PasswordState | Unknown | None:
        if not host.is_root:
            return Unknown("only root knows the password of the role", hidden=True)
        if self.want is None or self._ask(self.want.password, "SELECT 1"):
            return self.want
        if any(self._ask(each, "SELECT 1") for each in self.known):
            return PasswordState(Secret("another"))
        return Unknown("PostgreSQL lets the role in with neither its old nor its new password")

    def apply(self, host: Host, have: PasswordState | None) -> None:
        if self.want is not None:
            verifier = Secret(scram_verifier(self.want.password.reveal(), secrets.token_bytes(16)))
            for each in self.known:
                if self._ask(each, "ALTER ROLE {role} PASSWORD {verifier}", {"role": self.role}, {"verifier": verifier}):
                    return

    def _ask(self, password: Secret, statement: str, *values: dict[str, Any]) -> bool:
        session = self.login(password)
        try:
            session.query(self.database, statement, *values)
        except SqlError as failed:
            if failed.unreachable:
                return False
            raise
        finally:
            session.close()
        return True
