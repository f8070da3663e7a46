"""Bucket, access key, role, database and the cluster's settings against the fake services."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mlflow_onprem.clients.sql import SqlError
from mlflow_onprem.core.resource import Resource, Unknown, compare
from mlflow_onprem.resources.bucket import AccessKey, Bucket
from mlflow_onprem.resources.database import Database, Role, scram_matches
from tests.fake_machine import CREDENTIALS, Machine
from tests.fake_services import POSTGRES


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.converge(made.config(), CREDENTIALS)
    return made


def find(machine: Machine, kind: type[Resource], name: str = "") -> Resource:
    return next(each for each in machine.stack(machine.config(), CREDENTIALS) if isinstance(each, kind) and name in each.name)


def fields(machine: Machine, resource: Resource) -> set[str] | str:
    change = compare(resource, resource.observe(machine.host))
    return set() if change is None else set(change.fields) or change.action


def settle(machine: Machine, resource: Resource) -> None:
    resource.apply(machine.host, resource.observe(machine.host))
    assert fields(machine, resource) == set()


def test_a_role_with_too_much_power_or_another_password_is_put_right(machine: Machine) -> None:
    role = find(machine, Role)
    assert fields(machine, role) == set()
    machine.sql.roles["mlflow_user"][1] = True
    assert fields(machine, role) == {"superuser"}
    settle(machine, role)
    machine.sql.roles["mlflow_user"][3] = None
    assert fields(machine, role) == {"password"}
    settle(machine, role)
    verifier = machine.sql.roles["mlflow_user"][3]
    assert scram_matches(verifier, CREDENTIALS.postgres_password.reveal())
    assert not any("CANARY" in repr(each) for each in machine.sql.sent), "the server never sees the text"


def test_a_database_of_another_owner_or_open_to_everybody_is_put_right(machine: Machine) -> None:
    database = find(machine, Database)
    machine.sql.databases["mlflow"] = ["postgres", True]
    assert fields(machine, database) == {"owner", "open_to_public"}
    settle(machine, database)
    assert machine.sql.databases["mlflow"] == ["mlflow_user", False]
    assert machine.sql.databases["postgres"] == ["postgres", True], "others' databases stay as they are"


def test_wanted_absent_goes_and_takes_nothing_else_along(machine: Machine) -> None:
    for name in ("database:mlflow_auth", "database:mlflow"):
        settle(machine, dataclasses.replace(find(machine, Database, name), want=None))  # type: ignore[type-var]  # every resource is a dataclass
    settle(machine, dataclasses.replace(find(machine, Role), want=None))  # type: ignore[type-var]
    assert set(machine.sql.databases) == {"postgres"}
    assert machine.sql.roles == {}


def test_without_a_server_nothing_is_known_and_without_root_nothing_is_seen(machine: Machine) -> None:
    machine.systemd.unit(POSTGRES).active = False
    machine.systemd.unit("minio.service").active = False
    for kind in (Role, Database, Bucket, AccessKey):
        found = find(machine, kind).observe(machine.host)
        assert isinstance(found, Unknown)
        assert not found.hidden
    machine.host.is_root = False
    for kind in (Role, Database, Bucket, AccessKey):
        found = find(machine, kind).observe(machine.host)
        assert isinstance(found, Unknown)
        assert found.hidden


def test_a_bucket_and_a_key_that_somebody_removed_come_back(machine: Machine) -> None:
    machine.data.buckets.clear()
    machine.data.keys.clear()
    assert fields(machine, find(machine, Bucket)) == {"name"}
    assert fields(machine, find(machine, AccessKey)) == {"policy", "secret"}
    settle(machine, find(machine, Bucket))
    settle(machine, find(machine, AccessKey))


def test_a_key_that_may_more_or_has_another_secret_is_made_anew(machine: Machine) -> None:
    key = find(machine, AccessKey)
    secret, policy = machine.data.keys[CREDENTIALS.s3_access_key]
    wide = {**policy, "Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]}]}
    machine.data.keys[CREDENTIALS.s3_access_key] = (secret, wide)
    assert fields(machine, key) == {"policy"}
    settle(machine, key)
    machine.data.keys[CREDENTIALS.s3_access_key] = (CREDENTIALS.kek_passphrase, policy)
    assert fields(machine, key) == {"secret"}
    settle(machine, key)


@pytest.mark.parametrize(
    ("sqlstate", "unreachable"),
    [("08006", True), ("57P03", True), ("28000", True), ("3D000", True), ("42501", False), ("53300", False), ("42P01", False)],
)
def test_what_counts_as_no_server(sqlstate: str, unreachable: bool) -> None:
    assert SqlError("text", sqlstate).unreachable is unreachable
