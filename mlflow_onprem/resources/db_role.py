"""Roles of people and programs: what they may do in MLflow's database, and nothing anywhere else."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.clients.sql import Sql, SqlError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base, Unknown
from mlflow_onprem.core.secret import Secret

#: Connections that one role may hold: a dashboard that leaks them must not take those that MLflow needs.
CONNECTIONS = 20
READ, WRITE = "SELECT", "SELECT, INSERT, UPDATE, DELETE"
WHO = (
    "SELECT rolcanlogin AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls) AND rolconnlimit = {connections} "
    "AND NOT EXISTS (SELECT FROM pg_auth_members WHERE member = pg_authid.oid), rolpassword FROM pg_authid WHERE rolname = {role}"
)
RIGHTS = (
    "SELECT has_database_privilege({role}, current_database(), 'CONNECT') AND has_schema_privilege({role}, 'public', 'USAGE') "
    "AND NOT has_schema_privilege({role}, 'public', 'CREATE'), "
    "coalesce(bool_and(has_table_privilege({role}, c.oid, 'SELECT')), true), "
    "coalesce(bool_and(has_table_privilege({role}, c.oid, 'INSERT') AND has_table_privilege({role}, c.oid, 'UPDATE') "
    "AND has_table_privilege({role}, c.oid, 'DELETE')), true), "
    "coalesce(bool_or(has_table_privilege({role}, c.oid, 'INSERT,UPDATE,DELETE,TRUNCATE')), false) "
    "FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')"
)
GRANTS = (
    # Before PostgreSQL 15 everybody may make tables in public, MLflow's role by that alone.
    "GRANT USAGE, CREATE ON SCHEMA public TO {owner}",
    "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}",
    "REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {role}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public REVOKE ALL ON TABLES FROM {role}",
    "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public REVOKE ALL ON SEQUENCES FROM {role}",
    "GRANT CONNECT ON DATABASE {database} TO {role}",
    "GRANT USAGE ON SCHEMA public TO {role}",
    "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
)


@dataclass(frozen=True)
class DbRoleState:
    """Whether it reads only, its password's verifier, and whether it has exactly the rights that go with that."""

    read_only: bool
    password: Secret
    rights: bool = True


@dataclass(frozen=True)
class DatabaseRole(Base):
    """A login role for one database, whose tables `owner` makes: those to come are covered as well."""

    sql: Sql
    role: str
    database: str
    owner: str
    want: DbRoleState | None

    @property
    def name(self) -> str:
        return f"db-role:{self.role}"

    def observe(self, host: Host) -> DbRoleState | Unknown | None:
        if not host.is_root:
            return Unknown("only root may look into PostgreSQL", hidden=True)
        names = {"role": self.role, "connections": CONNECTIONS}
        try:
            rows = self.sql.query("postgres", WHO, literals=names)
            if not rows:
                return None
            plain, verifier = rows[0]
            allowed, reads, writes, changes = self.sql.query(self.database, RIGHTS, literals=names)[0]
        except SqlError as failed:
            if failed.unreachable:
                return Unknown(failed.why)
            raise
        read_only = not changes if self.want is None or self.want.read_only else not writes
        return DbRoleState(read_only, Secret(verifier or ""), bool(plain and allowed and reads))

    def apply(self, host: Host, have: DbRoleState | None) -> None:
        names = {"role": self.role, "database": self.database, "owner": self.owner}
        if self.want is None:
            self.sql.query("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = {role}", literals={"role": self.role})
            self.sql.query(self.database, "DROP OWNED BY {role}", {"role": self.role})
            self.sql.query("postgres", "DROP ROLE IF EXISTS {role}", {"role": self.role})
            return
        if have is None:
            self.sql.query("postgres", "CREATE ROLE {role}", {"role": self.role})
        self.sql.query(
            "postgres",
            "ALTER ROLE {role} LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS CONNECTION LIMIT {connections} "
            "PASSWORD {verifier}",
            {"role": self.role},
            {"connections": CONNECTIONS, "verifier": self.want.password},
        )
        for statement in (*GRANTS, *self._may(READ if self.want.read_only else WRITE)):
            self.sql.query(self.database, statement, {key: value for key, value in names.items() if f"{{{key}}}" in statement})

    def _may(self, what: str) -> tuple[str, ...]:
        return (
            f"GRANT {what} ON ALL TABLES IN SCHEMA public TO {{role}}",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {{owner}} IN SCHEMA public GRANT {what} ON TABLES TO {{role}}",
            "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT ON SEQUENCES TO {role}",
            *(() if what == READ else ("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",)),
            *(() if what == READ else ("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT USAGE ON SEQUENCES TO {role}",)),
        )
