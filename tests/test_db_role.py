"""Roles of people and programs in MLflow's database: their file, their lines in pg_hba.conf, what a name and a password may be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mlflow_onprem.clients.sql import SqlError
from mlflow_onprem.core.errors import ConfigError, OnPremError
from mlflow_onprem.core.resource import Unknown
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.db_role import command, render
from mlflow_onprem.db_role.command import Access
from mlflow_onprem.resources.database import scram_matches
from mlflow_onprem.resources.db_role import DatabaseRole, DbRoleState
from mlflow_onprem.settings import db_roles
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.db_roles import DbRole
from mlflow_onprem.system import clusters
from tests.fake_machine import CREDENTIALS, FACTS, Machine, config
from tests.fakes import FakeHost

ROLES = (DbRole("grafana", True, Secret("CANARY-verifier")), DbRole("team_bi", False, Secret("CANARY-other")))


def written(host: FakeHost, roles: tuple[DbRole, ...] = ROLES) -> None:
    host.mkdir("/etc/mlflow-onprem", mode=0o755, owner="root", group="root")
    db_roles.write(host, roles)


def hba(tmp_path: Path, *, ssl: bool = True, roles: tuple[DbRole, ...] = ROLES) -> list[list[str]]:
    machine = Machine(tmp_path)
    if roles:
        written(machine.host, roles)
    facts = dataclasses.replace(FACTS, cluster=dataclasses.replace(clusters.planned(15), ssl=ssl))
    stack = machine.stack(config({"postgres": {"allowed_networks": ["10.0.0.0/24"]}}), CREDENTIALS, facts)
    [block] = [each for each in stack if each.name.endswith("pg_hba.conf")]
    return [line.split() for line in block.want.content.value.splitlines()]


def test_the_file_is_roots_and_holds_no_password() -> None:
    host = FakeHost()
    assert db_roles.read(host) == ()
    written(host)
    assert db_roles.read(host) == ROLES
    found = host.stat(db_roles.PATH)
    assert found is not None
    assert (found.mode, found.owner) == (0o600, "root")
    assert "CANARY" not in repr(db_roles.read(host))
    host.put(db_roles.PATH, '{"roles": {"x": 1}}')
    with pytest.raises(OnPremError, match=r"db-roles\.json is damaged"):
        db_roles.read(host)


def test_their_lines_reach_one_database_and_nothing_else(tmp_path: Path) -> None:
    rows = [row for row in hba(tmp_path) if row[2] == "grafana,team_bi"]
    assert [(row[0], row[1], row[3]) for row in rows if row[-1] == "scram-sha-256"] == [
        ("host", "mlflow", "127.0.0.1/32"),
        ("host", "mlflow", "::1/128"),
        ("hostssl", "mlflow", "10.0.0.0/24"),
    ]
    assert [row[:2] for row in rows[-2:]] == [["local", "all"], ["host", "all"]]
    assert all(row[-1] == "reject" for row in rows[-2:])
    assert not [row for row in hba(tmp_path / "none", roles=()) if "grafana" in row[2]]


def test_from_the_network_by_tls_where_the_cluster_speaks_it(tmp_path: Path) -> None:
    def kinds(*, ssl: bool) -> set[str]:
        return {row[0] for row in hba(tmp_path / str(ssl), ssl=ssl) if row[3] == "10.0.0.0/24"}

    assert kinds(ssl=True) == {"hostssl"}
    assert kinds(ssl=False) == {"host"}, "a hostssl line without TLS lets nobody in"


def test_install_makes_what_the_file_says(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    written(machine.host)
    names = [each.name for each in machine.stack(machine.config(), CREDENTIALS)]
    assert names.index("schema:mlflow") < names.index("db-role:grafana")
    external = config({"postgres": {"mode": "external", "url": "postgresql://a@b/c", "password_file": "/etc/p"}})
    machine.host.put("/etc/p", "CANARY-p\n")
    assert "db-role:grafana" not in [each.name for each in machine.stack(external, CREDENTIALS)]


class Server:
    """Answers the two questions, keeps what it is told."""

    def __init__(self, who: list[list[Any]], rights: list[Any], fails: SqlError | None = None) -> None:
        self.who, self.rights, self.fails = who, rights, fails
        self.told: list[tuple[str, str]] = []

    def query(self, database: str, statement: str, identifiers: Any = None, literals: Any = None) -> list[list[Any]]:
        if self.fails is not None:
            raise self.fails
        if statement.startswith("SELECT rolcanlogin"):
            return self.who
        if statement.startswith("SELECT has_database_privilege"):
            return [self.rights]
        self.told.append((database, statement))
        return []


def role(server: Server, *, read_only: bool = True, want: bool = True) -> DatabaseRole:
    state = DbRoleState(read_only, Secret("verifier")) if want else None
    return DatabaseRole(server, "grafana", "mlflow", "mlflow_user", state)


READS, WRITES = [True, True, False, False], [True, True, True, True]


@pytest.mark.parametrize(
    ("who", "rights", "read_only", "unchanged"),
    [
        ([[True, "verifier"]], READS, True, True),
        ([[True, "verifier"]], WRITES, False, True),
        ([[True, "verifier"]], WRITES, True, False),
        ([[True, "verifier"]], READS, False, False),
        ([[True, "verifier"]], [True, True, False, True], True, False),
        ([[True, "another"]], READS, True, False),
        ([[False, "verifier"]], READS, True, False),
        ([[True, "verifier"]], [True, False, False, False], True, False),
        ([], READS, True, False),
    ],
    ids=["reads", "writes", "writes though", "cannot write", "may delete", "another password", "superuser", "a table without", "missing"],
)
def test_more_or_less_than_its_rights_is_drift(who: list[list[Any]], rights: list[Any], read_only: bool, unchanged: bool) -> None:
    found = role(Server(who, rights), read_only=read_only)
    assert (found.observe(FakeHost()) == found.want) is unchanged


def test_tables_to_come_are_covered_and_the_accounts_database_is_not_named() -> None:
    server = Server([], READS)
    role(server).apply(FakeHost(), None)
    text = "\n".join(statement for _, statement in server.told)
    assert "GRANT SELECT ON ALL TABLES" in text
    assert "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT ON TABLES" in text
    assert "INSERT" not in text
    assert {database for database, _ in server.told} == {"postgres", "mlflow"}
    gone = Server([], READS)
    role(gone, want=False).apply(FakeHost(), None)
    assert [statement.split()[0:2] for _, statement in gone.told][1:] == [["DROP", "OWNED"], ["DROP", "ROLE"]]


def test_without_a_server_nothing_is_known() -> None:
    found = role(Server([], READS, SqlError("no", "08006"))).observe(FakeHost())
    assert isinstance(found, Unknown)
    assert isinstance(role(Server([], READS)).observe(FakeHost(is_root=False)), Unknown)


@pytest.mark.parametrize("name", ["Grafana", "gra fana", "postgres", "pg_read", "mlflow_user", "mlflow_auth", "mlflow", "public", "a;drop", ""])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        command.check_name(Config(), name)


@pytest.mark.parametrize("text", ["short", "pässwörter-sind-lang", "tab\tin the middle"])
def test_passwords_that_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="nothing was changed"):
        command.check_password(Secret(text))


def test_a_generated_password_is_kept_as_a_verifier() -> None:
    password = command.generate()
    command.check_password(password)
    assert scram_matches(command._verifier(password).reveal(), password.reveal())


def test_what_is_shown_and_when() -> None:
    found = Access("grafana", True, "server", 5432, "mlflow", ("10.0.0.0/24",), True, Secret("CANARY"))
    text = render.access_text(found, "made role")
    assert "CANARY" in text
    assert 'psql "host=server port=5432 dbname=mlflow user=grafana sslmode=require"' in text
    again = dataclasses.replace(found, password=None, networks=())
    assert "password" not in render.access_json(again)
    assert "allowed_networks" in render.list_text([again])
    assert "db-role add" in render.list_text([])
