"""PostgreSQL: roles, databases, and settings that are in force."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlflow_onprem.clients.sql import Sql, SqlError
from mlflow_onprem.core import wait
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base, Unknown
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.system.systemd import Systemd

ITERATIONS = 4096  # PostgreSQL's own scram_iterations


@dataclass(frozen=True)
class RoleState:
    """A login role without any power over the cluster. The password counts only over TCP."""

    login: bool
    superuser: bool
    create_role: bool
    password: Secret


@dataclass(frozen=True)
class Role(Base):
    """A role; its password is sent as a SCRAM verifier, so the server never sees the text."""

    sql: Sql
    role: str
    want: RoleState | None

    @property
    def name(self) -> str:
        return f"role:{self.role}"

    def observe(self, host: Host) -> RoleState | Unknown | None:
        statement = "SELECT rolcanlogin, rolsuper, rolcreaterole, rolpassword FROM pg_authid WHERE rolname = {role}"
        rows = _rows(host, self.sql, "postgres", statement, {"role": self.role})
        if isinstance(rows, Unknown):
            return rows
        if not rows:
            return None
        login, superuser, create_role, verifier = rows[0]
        wanted = self.want.password if self.want is not None else Secret("")
        same = verifier is not None and scram_matches(verifier, wanted.reveal())
        return RoleState(login, superuser, create_role, wanted if same else Secret("another"))

    def apply(self, host: Host, have: RoleState | None) -> None:
        if self.want is None:
            self.sql.query("postgres", "DROP ROLE IF EXISTS {role}", {"role": self.role})
            return
        if have is None:
            self.sql.query("postgres", "CREATE ROLE {role}", {"role": self.role})
        verifier = scram_verifier(self.want.password.reveal(), secrets.token_bytes(16))
        self.sql.query(
            "postgres", "ALTER ROLE {role} LOGIN NOSUPERUSER NOCREATEROLE PASSWORD {verifier}", {"role": self.role}, {"verifier": Secret(verifier)}
        )


@dataclass(frozen=True)
class DatabaseState:
    """Who owns it, and whether everybody in the cluster may connect to it."""

    owner: str
    open_to_public: bool = False


@dataclass(frozen=True)
class Database(Base):
    """A database owned by its role: from PostgreSQL 15 on a grant alone does not let the role make tables.

    `maintenance` is the database to connect to for statements about others. Where the server is not ours, who may connect is not either.
    """

    sql: Sql
    database: str
    want: DatabaseState | None
    maintenance: str = "postgres"
    ours: bool = True

    @property
    def name(self) -> str:
        return f"database:{self.database}"

    def observe(self, host: Host) -> DatabaseState | Unknown | None:
        statement = (
            "SELECT pg_get_userbyid(datdba), "
            "EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0 AND privilege_type = 'CONNECT') "
            "FROM pg_database WHERE datname = {database}"
        )
        rows = _rows(host, self.sql, self.maintenance, statement, {"database": self.database})
        if isinstance(rows, Unknown):
            return rows
        return DatabaseState(rows[0][0], self.ours and rows[0][1]) if rows else None

    def apply(self, host: Host, have: DatabaseState | None) -> None:
        names = {"database": self.database}
        if self.want is None:
            self.sql.query(self.maintenance, "DROP DATABASE IF EXISTS {database} WITH (FORCE)", names)
            return
        names["owner"] = self.want.owner
        if have is None:
            self.sql.query(self.maintenance, create_statement(self.sql, self.maintenance, ours=self.ours), names)
        elif have.owner != self.want.owner:
            self.sql.query(self.maintenance, "ALTER DATABASE {database} OWNER TO {owner}", names)
        if self.ours:
            self.sql.query(self.maintenance, "REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC", names)


def create_statement(sql: Sql, maintenance: str, *, ours: bool) -> str:
    """CREATE DATABASE {database} OWNER {owner}, in UTF-8 whatever the cluster was made in.

    A cluster in EUC_JP, LATIN1 or SQL_ASCII has a locale that does not go with UTF-8, and one in C or POSIX knows no letters but ASCII's: the
    database gets C.UTF-8 then, which sorts by code point. Where the server is not ours only the first is changed: its locales are not known.
    """
    statement = "SELECT pg_encoding_to_char(encoding), datctype, current_setting('server_version_num') FROM pg_database WHERE datname = 'template0'"
    rows = sql.query(maintenance, statement)
    encoding, ctype, version = rows[0] if rows else ("UTF8", "C.UTF-8", "0")
    create = "CREATE DATABASE {database} OWNER {owner} ENCODING 'UTF8' TEMPLATE template0"
    plain = ctype in ("C", "POSIX")
    if (encoding == "UTF8" and not plain) or (plain and not ours):
        return create
    return create + " LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'" + (" LOCALE_PROVIDER libc" if int(version) >= 150000 else "")


@dataclass(frozen=True)
class SettingsInForceState:
    """Whether the running server has read its files since they last changed, and which of our settings wait for a restart."""

    loaded: bool
    waiting_for_restart: tuple[str, ...] = ()


@dataclass(frozen=True)
class SettingsInForce(Base):
    """The cluster runs on its files as they are. A reload where that does, a restart only for a setting of ours that needs one."""

    sql: Sql
    systemd: Systemd
    unit: str
    paths: tuple[str, ...]
    settings: tuple[str, ...]
    want: SettingsInForceState | None = SettingsInForceState(loaded=True)

    @property
    def name(self) -> str:
        return f"settings:{self.unit}"

    def observe(self, host: Host) -> SettingsInForceState | Unknown | None:
        statement = (
            "SELECT extract(epoch FROM pg_conf_load_time()), array(SELECT name FROM pg_settings WHERE pending_restart ORDER BY name), "
            "(SELECT count(*) FROM pg_file_settings WHERE NOT applied AND error IS NOT NULL AND NOT (error LIKE '%restarting%'))"
        )
        rows = _rows(host, self.sql, "postgres", statement, {})
        if isinstance(rows, Unknown):
            return rows if self.want is not None else None
        if self.want is None:
            return None
        loaded_at, pending, _ = rows[0]
        written = [found.mtime for path in self.paths if (found := host.stat(path)) is not None]
        return SettingsInForceState(all(each <= float(loaded_at) for each in written), tuple(name for name in pending if name in self.settings))

    def apply(self, host: Host, have: SettingsInForceState | None) -> None:
        if self.want is None:
            return
        self.sql.query("postgres", "SELECT pg_reload_conf()")
        # The postmaster reads its files a moment after it was asked to.
        _until(lambda: not self._still_loading(host))
        after = self.observe(host)
        if isinstance(after, SettingsInForceState) and after.waiting_for_restart:
            started = self._started()
            # Debian's pg_ctlcluster looks only every two seconds whether the server is up; it answers after a tenth of one.
            self.systemd.act("restart", "--no-block", self.unit)
            _until(lambda: self._started() not in ("", started))

    def _still_loading(self, host: Host) -> bool:
        found = self.observe(host)
        return not (isinstance(found, SettingsInForceState) and found.loaded)

    def _started(self) -> str:
        """When the server that answers was started; nothing while none answers."""
        try:
            return str(self.sql.query("postgres", "SELECT pg_postmaster_start_time()")[0][0])
        except SqlError:
            return ""


def scram_verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """The form in which PostgreSQL stores a SCRAM-SHA-256 password (RFC 5803)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    stored = base64.b64encode(hashlib.sha256(client).digest()).decode()
    return f"SCRAM-SHA-256${iterations}:{base64.b64encode(salt).decode()}${stored}:{base64.b64encode(server).decode()}"


def scram_matches(verifier: str, password: str) -> bool:
    """Whether a stored verifier is of this password; False for any other form."""
    try:
        scheme, middle, _ = verifier.split("$")
        iterations, salt = middle.split(":")
        return scheme == "SCRAM-SHA-256" and hmac.compare_digest(verifier, scram_verifier(password, base64.b64decode(salt), int(iterations)))
    except ValueError:
        return False


def _rows(host: Host, sql: Sql, database: str, statement: str, literals: dict[str, str]) -> list[list[Any]] | Unknown:
    if not host.is_root:
        return Unknown("only root may look into PostgreSQL", hidden=True)
    try:
        return sql.query(database, statement, literals=literals)
    except SqlError as failed:
        if failed.unreachable:
            return Unknown(failed.why)
        raise


def _until(holds: Callable[[], bool], deadline: float = 20.0) -> None:
    if not wait.until(holds, deadline):
        raise OnPremError(f"PostgreSQL did not take up its settings within {deadline:.0f} s", "look at `mlflow-onprem logs postgres`")
