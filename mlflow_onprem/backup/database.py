"""Databases: dumped as of one moment, fingerprinted, restored beside the one in use and exchanged with it in one transaction."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mlflow_onprem.core.errors import CommandFailed, OnPremError, Refused
from mlflow_onprem.resources.database import create_statement
from mlflow_onprem.settings.topology import LocalPostgres, Postgres
from mlflow_onprem.system.local_host import LocalHost

#: So that the same row has the same text on every host.
SPELLING = (
    "SET TIME ZONE 'UTC'", "SET DateStyle TO ISO, MDY", "SET IntervalStyle TO postgres", "SET bytea_output TO hex", "SET extra_float_digits TO 1",
)  # fmt: skip
FINGERPRINT = "SELECT count(*), coalesce(sum(('x' || substr(md5(t::text), 1, 15))::bit(60)::bigint), 0)::text FROM {table} t"
PASSFILE = "/etc/mlflow-onprem/mlflow/pgpass"
OLD_TOOLS = "install the client programs of the server's version: apt-get install postgresql-client-{version}"

Tables = Mapping[str, tuple[int, str]]


class Session(Protocol):
    """The administrator's session (sql.SqlSession)."""

    def query(
        self, database: str, statement: str, identifiers: Mapping[str, str] | None = None, literals: Mapping[str, Any] | None = None
    ) -> list[list[Any]]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Server:
    """One PostgreSQL: how its own programs reach it. `address` is a libpq URI without password and database, `query` what follows the database."""

    host: LocalHost
    sql: Session
    address: str
    query: str = ""
    account: str | None = "postgres"
    environment: Mapping[str, str] = field(default_factory=dict)
    maintenance: str = "postgres"

    def version(self) -> int:
        """The server's major version."""
        return int(self.sql.query(self.maintenance, "SHOW server_version_num")[0][0]) // 10000

    def exists(self, database: str) -> bool:
        """Whether there is such a database."""
        return bool(self.sql.query(self.maintenance, "SELECT 1 FROM pg_database WHERE datname = {name}", literals={"name": database}))

    @contextmanager
    def snapshot(self, database: str) -> Iterator[str]:
        """One moment of a database: statements in it and dumps given its name see the same rows, whoever writes meanwhile."""
        for statement in SPELLING:
            self.sql.query(database, statement)
        self.sql.query(database, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield str(self.sql.query(database, "SELECT pg_export_snapshot()")[0][0])
        finally:
            self.sql.query(database, "COMMIT")

    def tables(self, database: str) -> Tables:
        """Rows and a digest of all rows for every table; call it within `snapshot`."""
        names = self.sql.query(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        found = {}
        for (table,) in names:
            count, digest = self.sql.query(database, FINGERPRINT, {"table": table})[0]
            found[str(table)] = (int(count), str(digest))
        return found

    def dump(self, database: str, snapshot: str, target: Path) -> None:
        """pg_dump's custom format into a file. Raises CommandFailed."""
        argv = ["--format=custom", f"--snapshot={snapshot}", "--lock-wait-timeout=120s", f"--dbname={self._uri(database)}"]
        self._run("pg_dump", argv, target=target)

    def roles(self, target: Path) -> None:
        """Every role of the cluster with its password's verifier, as SQL; for a person, restore makes its own role by itself."""
        self._run("pg_dumpall", ["--roles-only", f"--dbname={self._uri(self.maintenance)}"], target=target)

    def restore(self, dump: Path, database: str, owner: str) -> None:
        """A dump into a fresh database beside the one in use."""
        fresh = fresh_name(database)
        self.drop(fresh)
        names = {"database": fresh, "owner": owner}
        self.sql.query(self.maintenance, create_statement(self.sql, self.maintenance, ours=self.account is not None), names)
        self.sql.query(self.maintenance, "REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC", names)
        argv = ["--exit-on-error", "--no-owner", "--no-privileges", f"--role={owner}", f"--dbname={self._uri(fresh)}"]
        self._run("pg_restore", argv, source=dump)
        self.sql.query(fresh, "ANALYZE")

    def copy(self, database: str, owner: str) -> None:
        """A database as it is, file by file, where a restored one would wait. Nobody may be connected to it meanwhile."""
        self.sql.close()  # our own session in it is in the way, too
        fresh = fresh_name(database)
        self.drop(fresh)
        names = {"fresh": fresh, "database": database, "owner": owner}
        # From 15 on the default is to write all of it to the log first.
        strategy = " STRATEGY FILE_COPY" if self.version() >= 15 else ""
        self._evict([database])
        self.sql.query(self.maintenance, "CREATE DATABASE {fresh} OWNER {owner} TEMPLATE {database}" + strategy, names)
        self.sql.query(self.maintenance, "REVOKE CONNECT, TEMPORARY ON DATABASE {fresh} FROM PUBLIC", names)

    def exchange(self, databases: Sequence[str], *, back: bool = False) -> None:
        """The restored databases become the ones in use, all in one transaction; the ones in use are kept beside them. `back` is the reverse."""
        self.sql.close()  # our own sessions in them are in the way, too
        moves = [(name, aside_name(name), fresh_name(name)) for name in databases]
        last: OnPremError | None = None
        for _ in range(20):
            try:
                self._evict([each for move in moves for each in move])
                self.sql.query(self.maintenance, "BEGIN")
                try:
                    for name, aside, fresh in moves:
                        first, second = ((name, fresh), (aside, name)) if back else ((name, aside), (fresh, name))
                        for old, new in (first, second):
                            self.sql.query(self.maintenance, "ALTER DATABASE {old} RENAME TO {new}", {"old": old, "new": new})
                except BaseException:
                    self.sql.close()  # ends the transaction without doing any of it
                    raise
                self.sql.query(self.maintenance, "COMMIT")
                return
            except OnPremError as busy:
                last = busy
                if getattr(busy, "sqlstate", "") != "55006":  # object_in_use
                    break
                time.sleep(0.2)  # somebody came back between being sent away and the exchange
        assert last is not None
        raise last

    def exchanged(self, database: str) -> bool:
        """Whether `exchange` was done and `forget` was not yet."""
        return self.exists(aside_name(database)) and not self.exists(fresh_name(database))

    def forget(self, databases: Sequence[str]) -> None:
        """Drop what is beside the databases in use."""
        for name in databases:
            self.drop(aside_name(name))
            self.drop(fresh_name(name))

    def drop(self, database: str) -> None:
        """Drop a database, whoever uses it."""
        self.sql.query(self.maintenance, "DROP DATABASE IF EXISTS {database} WITH (FORCE)", {"database": database})

    def _evict(self, databases: Sequence[str]) -> None:
        statement = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = {name}"
        for name in databases:
            self.sql.query(self.maintenance, statement, literals={"name": name})

    def _uri(self, database: str) -> str:
        return f"{self.address}/{database}{self.query}"

    def _run(self, program: str, argv: Sequence[str], *, source: Path | None = None, target: Path | None = None) -> None:
        version = self.version()
        own = f"/usr/lib/postgresql/{version}/bin/{program}"
        path = own if self.host.stat(own) is not None else program
        # PostgreSQL reads a dump up to its own version: newer programs on the host are as good.
        hint = OLD_TOOLS.format(version=version)
        self.host.pipe([path, *argv], source=source, target=target, user=self.account, env={**self.environment, "HOME": "/"}, hint=hint)


def fresh_name(database: str) -> str:
    """Where a restored database waits."""
    return f"{database[:50]}_restored"


def aside_name(database: str) -> str:
    """Where the database that was in use waits."""
    return f"{database[:50]}_before"


def differences(wanted: Tables, found: Tables) -> list[str]:
    """What is not the same, in words."""
    lines = []
    for table in sorted({*wanted, *found}):
        want, have = wanted.get(table), found.get(table)
        if want is None or have is None:
            lines.append(f"table {table} is {'missing' if have is None else 'too much'}")
        elif tuple(want) != tuple(have):
            lines.append(f"table {table} has {have[0]} rows" + (f", not {want[0]}" if have[0] != want[0] else " with other contents"))
    return lines


def server(host: LocalHost, sql: Session, postgres: Postgres) -> Server:
    """PostgreSQL of this configuration. Raises Refused where an external one cannot be reached by its own programs."""
    if isinstance(postgres, LocalPostgres):
        return Server(host, sql, f"postgresql://postgres@:{postgres.port}", "?host=/var/run/postgresql")
    try:
        host.run(["pg_dump", "--version"])
    except CommandFailed:
        raise Refused("pg_dump is not on this host", OLD_TOOLS.format(version="NN") + " (NN: the external server's major version)") from None
    query = f"?{postgres.query}" if postgres.query else ""
    return Server(host, sql, f"postgresql://{postgres.where}", query, None, {"PGPASSFILE": PASSFILE}, maintenance="postgres")
