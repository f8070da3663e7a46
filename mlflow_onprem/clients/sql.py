"""Statements for PostgreSQL, through one session a run."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.system.local_host import LocalHost, Session

#: What to do about an error, by the beginning of its code; the longest that fits counts.
HINTS = {
    "": "look at `mlflow-onprem logs postgres`",
    "28": "PostgreSQL's administrator is let in by the line `local all postgres peer` of pg_hba.conf: put it before every other line there, "
    "run `sudo systemctl reload postgresql`, then run this again",
    "53100": "the disk is full: free some space (`df -h`, `sudo apt-get clean`), then run this again",
    "53300": "every connection is taken: see by whom with `ps -ef | grep postgres:`, end what is not needed, or raise max_connections in "
    "postgresql.conf and restart PostgreSQL; then run this again",
    "25006": "this cluster is a standby, or was made read-only: use its primary, or give ours a port of its own ([postgres] port)",
}


class SqlError(OnPremError):
    """PostgreSQL answered with an error; `sqlstate` is its code."""

    def __init__(self, message: str, sqlstate: str) -> None:
        hint = HINTS[max((each for each in HINTS if sqlstate.startswith(each)), key=len)]
        super().__init__(f"PostgreSQL says: {message}", hint)
        self.sqlstate = sqlstate

    @property
    def kept_out(self) -> bool:
        """The server is there and does not let this account in."""
        return self.sqlstate.startswith("28")

    @property
    def why(self) -> str:
        """For a plan: why nothing can be told."""
        return self.message if self.kept_out else "PostgreSQL is not running here yet"

    @property
    def unreachable(self) -> bool:
        """No connection came about: not running, not there yet, or not let in."""
        return self.sqlstate.startswith(("08", "57P", "28")) or self.sqlstate == "3D000"


class Sql(Protocol):
    """What the database resources need."""

    def query(
        self, database: str, statement: str, identifiers: Mapping[str, str] | None = None, literals: Mapping[str, Any] | None = None
    ) -> list[list[Any]]: ...


class SqlSession:
    """A session as the administrator of a cluster: `{name}` in a statement stands for a quoted identifier or literal of that name.

    `user` is the operating system's account to be (peer authentication), `parameters` are libpq's connection parameters.
    """

    def __init__(self, host: LocalHost, parameters: Mapping[str, str | Secret], user: str | None = "postgres") -> None:
        self._host = host
        self._parameters = parameters
        self._user = user
        self._child: Session | None = None
        self._lock = threading.Lock()

    def query(
        self, database: str, statement: str, identifiers: Mapping[str, str] | None = None, literals: Mapping[str, Any] | None = None
    ) -> list[list[Any]]:
        """Run one statement in one database; rows, or an empty list where it returns none. Raises SqlError."""
        plain = {key: value.reveal() if isinstance(value, Secret) else value for key, value in (literals or {}).items()}
        request = {"database": database, "statement": statement, "identifiers": dict(identifiers or {}), "literals": plain}
        with self._lock:
            try:
                answer = self._ask(request)
            except (BrokenPipeError, json.JSONDecodeError) as ended:
                self._child = None
                raise SqlError("the administrator's session ended", "08006") from ended
        if "error" in answer:
            raise SqlError(answer["error"], answer["sqlstate"])
        rows: list[list[Any]] = answer["rows"]
        return rows

    def start(self) -> None:
        """Start the session's process now, so that it loads while we do something else."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """End the session."""
        with self._lock:
            if self._child is not None and self._child.stdin is not None:
                with contextlib.suppress(OSError):
                    self._child.stdin.close()
                self._child.wait(timeout=10)
                self._child = None

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        child = self._running()
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        answer: dict[str, Any] = json.loads(child.stdout.readline())
        return answer

    def _running(self) -> Session:
        if self._child is None or self._child.poll() is not None:
            try:
                self._child = self._host.spawn([sys.executable, "-I", "-m", "mlflow_onprem.clients.sql_child"], user=self._user, env={"HOME": "/"})
            except KeyError as missing:
                raise SqlError("there is no operating system account `postgres` yet", "08001") from missing
            except PermissionError as denied:
                raise SqlError(
                    f"the account `{self._user}` may not run {sys.executable}: PostgreSQL is administered as that account. "
                    "Run the command that ./bootstrap installs",
                    "42501",
                ) from denied
            plain = {key: value.reveal() if isinstance(value, Secret) else value for key, value in self._parameters.items()}
            assert self._child.stdin is not None
            self._child.stdin.write(json.dumps(plain) + "\n")
        return self._child
