"""What uninstall takes and what it leaves, for each kind of host. That it leaves a host as it was is shown in tests/host/test_uninstall.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from mlflow_onprem.clients.sql import SqlError
from mlflow_onprem.core.resource import Mode
from mlflow_onprem.resources.files import Directory, DirectoryState
from mlflow_onprem.resources.packages import BROUGHT
from mlflow_onprem.settings import db_roles
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.stack import inputs
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.stack.connections import Connections
from mlflow_onprem.system.clusters import planned
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.uninstall import command, render
from tests.fake_machine import CREDENTIALS, EXTERNAL, FACTS, Machine, config, external_files
from tests.fakes import FakeHost


class Answers:
    """PostgreSQL with these databases beside `postgres`, or none that answers."""

    def __init__(self, *databases: str) -> None:
        self.databases = databases

    def query(
        self, database: str, statement: str, identifiers: Mapping[str, str] | None = None, literals: Mapping[str, Any] | None = None
    ) -> list[list[Any]]:
        if not self.databases:
            raise SqlError("nothing there", "08001")
        return [[name] for name in self.databases] if "pg_database" in statement else [[3]]


def removal(
    tmp_path: Path,
    *,
    purge: bool,
    values: dict[str, Any] | None = None,
    facts: Facts = FACTS,
    databases: tuple[str, ...] = ("mlflow", "mlflow_auth"),
    brought: bool = True,
    beside: tuple[str, ...] = (),
) -> tuple[list[str], str]:
    """Names of all that would be wanted absent, in order, and what stays."""
    machine = Machine(tmp_path)
    external_files(machine.host)
    if brought:
        machine.host.put(BROUGHT, "postgresql-15\nlibpq5\n")
    wanted = config(values, program=machine.program)
    external = inputs.read(machine.host, wanted)
    stack = machine.stack(wanted, CREDENTIALS, facts)
    to = cast("Connections", None)
    assembly = Assembly(wanted, CREDENTIALS, facts, external, to, stack, cast("Any", Answers(*databases)))
    others = command._other_databases(assembly)
    found = command.postgres_of(assembly, others, tuple(planned(15, name) for name in beside), packages_ours=brought)
    retired = command._retired(assembly, found, purge=purge)
    host = cast("LocalHost", machine.host)
    stays = "\n".join(command._stays(host, assembly, found, purge=purge))
    assert all(each.want is None for each in retired)
    return [each.name for each in retired], stays


def test_data_credentials_and_their_accounts_stay(tmp_path: Path) -> None:
    goes, stays = removal(tmp_path, purge=False)
    for kept in (
        "directory:/opt/minio/data",
        "file:/etc/mlflow-onprem/credentials.json",
        "user:minio",
        "packages:postgresql-15",
        "database:mlflow",
        "role:mlflow_user",
    ):
        assert kept not in goes
    for gone in (
        "service:mlflow.service",
        "service:minio.service",
        "user:mlflow",
        "file:/etc/systemd/system/mlflow.service",
        "service:postgresql@15-main.service",
    ):
        assert gone in goes
    assert "credentials.json" in stays
    assert "/opt/minio/data" in stays
    assert "mlflow and mlflow_auth" in stays
    # A service is stopped before its unit, its files and its account go; the folders of all come last.
    assert goes.index("service:mlflow.service") < goes.index("file:/etc/systemd/system/mlflow.service") < goes.index("user:mlflow")
    assert goes[-1].startswith("directory:/etc/mlflow-onprem")


def test_a_purge_takes_data_too(tmp_path: Path) -> None:
    goes, stays = removal(tmp_path, purge=True)
    assert f"file:{db_roles.PATH}" in goes, "its verifiers are secrets as well"
    for gone in ("directory:/opt/minio/data", "file:/etc/mlflow-onprem/credentials.json", "user:minio", "user:postgres", "packages:postgresql-15"):
        assert gone in goes
    assert "credentials" not in stays


@pytest.mark.parametrize(
    "case",
    [
        {"facts": dataclasses.replace(FACTS, postgres_shared=True)},
        {"databases": ("mlflow", "mlflow_auth", "wiki")},
        {"brought": False},
    ],
    ids=["it was here before us", "it holds another database", "its package was not brought by us"],
)
def test_a_cluster_that_is_not_ours_alone_stays_and_only_our_databases_go(case: dict[str, Any], tmp_path: Path) -> None:
    goes, stays = removal(tmp_path, purge=True, **case)
    assert "packages:postgresql-15" not in goes
    assert "service:postgresql@15-main.service" not in goes
    assert "user:postgres" not in goes
    assert {"database:mlflow", "database:mlflow_auth", "role:mlflow_user", "block:/etc/postgresql/15/main/pg_hba.conf"} <= set(goes)
    assert goes.index("database:mlflow") < goes.index("role:mlflow_user"), "a role that owns something cannot be dropped"
    assert "PostgreSQL 15" in stays


def test_a_cluster_that_we_made_beside_others_goes_and_theirs_stay(tmp_path: Path) -> None:
    """apt's purge of a version drops every cluster of it, and postgresql.service stops them all."""
    made = dataclasses.replace(FACTS, postgres_made=True)
    goes, stays = removal(tmp_path / "beside", purge=True, facts=made, beside=("wiki",))
    assert "cluster:15/main" in goes
    assert not {"packages:postgresql-15", "service:postgresql@15-main.service", "user:postgres", "database:mlflow"} & set(goes)
    assert "it has other clusters too (15/wiki); of its clusters only 15/main goes" in stays
    goes, stays = removal(tmp_path / "packages", purge=True, facts=made, brought=False)
    assert {"cluster:15/main", "service:postgresql@15-main.service"} <= set(goes)
    assert "packages:postgresql-15" not in goes
    assert "its packages were here before us; of its clusters only 15/main goes" in stays
    goes, _ = removal(tmp_path / "data", purge=False, facts=made)
    assert "cluster:15/main" not in goes, "it holds the data"


def test_accounts_of_before_us_stay(tmp_path: Path) -> None:
    goes, _ = removal(tmp_path, purge=True, facts=dataclasses.replace(FACTS, users_before=("mlflow", "postgres")))
    assert "user:minio" in goes
    assert "user:mlflow" not in goes
    assert "user:postgres" not in goes


def test_of_external_services_only_what_was_made_there_goes(tmp_path: Path) -> None:
    goes, stays = removal(tmp_path, purge=False, values=EXTERNAL)
    assert not [name for name in goes if name.startswith(("bucket:", "database:"))]
    goes, stays = removal(tmp_path / "purge", purge=True, values=EXTERNAL)
    assert "bucket:mlflow" in goes
    assert "database:tracking" not in goes, "its owner's provided"
    assert "its owner has to drop it" in stays


def test_a_shared_folder_goes_only_when_it_is_empty() -> None:
    host = FakeHost()
    host.mkdir("/opt/ours", mode=0o755, owner="root", group="root")
    host.put("/opt/ours/cli", "somebody needs it")
    state = DirectoryState(Mode(0o755), "root", "root")
    assert Directory("/opt/ours", None, shared=True).observe(host) is None, "unchanged: nothing of ours is there"
    assert Directory("/opt/ours", None).observe(host) == state
    host.remove("/opt/ours/cli")
    assert Directory("/opt/ours", None, shared=True).observe(host) == state


def test_what_is_lost_is_said_in_numbers() -> None:
    stock = command.Stock(runs=1, models=None, size=2_500_000)
    text = render._stock(stock)
    assert "1 run," in text
    assert "registered models that could not be counted" in text
    assert "2.5 MB" in text
