"""Rotation: the steps as pure functions, and on a whole fake machine killed after every act: nothing in use is ever refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from mlflow_onprem.clients.mlflow_api import ApiError
from mlflow_onprem.core import engine
from mlflow_onprem.core.errors import ConfigError, OnPremError
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources import database
from mlflow_onprem.rotation import render
from mlflow_onprem.rotation.command import Rotated
from mlflow_onprem.settings import credentials as credentials_module
from mlflow_onprem.settings import secret_age
from mlflow_onprem.settings.credentials import GROUPS, ROOT, UNFINISHED, Credentials, Stage
from mlflow_onprem.stack import mlflow as mlflow_stage
from mlflow_onprem.stack.inputs import External
from mlflow_onprem.system import workers
from tests.fake_machine import CREDENTIALS, Machine, config
from tests.fakes import Crashed

EVERYTHING = tuple(GROUPS)
ETC = "/etc/mlflow-onprem"


def values(found: Credentials) -> dict[str, str]:
    """Every secret, revealed."""
    return {name: getattr(found, name).reveal() for name in vars(found) if isinstance(getattr(found, name), Secret)}


def begun(*scope: str) -> Credentials:
    return credentials_module.begin(CREDENTIALS, scope or EVERYTHING, credentials_module.generate())


def steps(found: Credentials) -> list[Credentials]:
    """Every step from here to the end."""
    taken = [found]
    while taken[-1].rotation is not None:
        taken.append(credentials_module.advance(taken[-1]))
    return taken


# the steps -----------------------------------------------------------------------------------------------------------


def test_a_rotation_goes_through_its_stages_and_ends_with_new_values() -> None:
    taken = steps(begun())
    assert [each.rotation.stage for each in taken if each.rotation] == [Stage.PENDING, Stage.CURRENT, Stage.PREVIOUS, Stage.ROOT]
    old, new = values(CREDENTIALS), values(taken[-1])
    assert [name for name in old if old[name] == new[name]] == []
    assert taken[-1].minio_root_user == CREDENTIALS.minio_root_user, "the access keys are its children"
    assert UNFINISHED in taken[0].dates
    assert UNFINISHED not in taken[-1].dates


@pytest.mark.parametrize("group", EVERYTHING)
def test_only_one_group_changes_nothing_else(group: str) -> None:
    last = steps(begun(group))[-1]
    changed = {name for name, value in vars(last).items() if value != getattr(CREDENTIALS, name) and name not in ("dates", "rotation")}
    assert changed == {name for fields in GROUPS[group].values() for name in fields}
    assert set(last.dates) == set(GROUPS[group])


def test_what_is_in_use_is_accepted_at_every_step() -> None:
    """Between two steps workers of both run side by side: each value one of them uses is accepted in the other's step too."""
    taken = steps(begun())
    for before, after in itertools.pairwise(taken):
        for name in ("kek_passphrase", "webhook_key"):
            assert credentials_module.accepted(before, name)[0] in credentials_module.accepted(after, name)
            assert credentials_module.accepted(after, name)[0] in credentials_module.accepted(before, name)


@pytest.mark.parametrize("failing", [Stage.PENDING, Stage.CURRENT])
def test_turning_back_ends_with_the_values_there_were(failing: Stage) -> None:
    found = next(each for each in steps(begun()) if each.rotation and each.rotation.stage is failing)
    back = steps(credentials_module.roll_back(found))
    assert values(back[-1]) == values(CREDENTIALS)
    assert Stage.ROOT not in [each.rotation.stage for each in back if each.rotation]
    assert all(each.rotation.back for each in back if each.rotation)
    assert dict(back[-1].dates) == dict(CREDENTIALS.dates)


def test_every_step_is_read_back_as_it_was_written() -> None:
    for each in [*steps(begun()), *steps(credentials_module.roll_back(begun()))]:
        assert credentials_module.parse(credentials_module.serialize(each).reveal()) == each


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"s3_access_key": 1}'])
def test_a_damaged_file_is_told_without_its_content(text: str) -> None:
    with pytest.raises(OnPremError, match="damaged"):
        credentials_module.parse(text)


def test_a_damaged_record_of_a_rotation_is_told_too() -> None:
    record = json.loads(credentials_module.serialize(begun()).reveal())
    for broken in ({**record, "rotation": {"stage": "nonsense"}}, {**record, "rotation": {**record["rotation"], "other": {}}}):
        with pytest.raises(OnPremError, match="damaged"):
            credentials_module.parse(json.dumps(broken))


def test_the_dates_show_no_value() -> None:
    text = credentials_module.dates_resource(begun()).want
    assert text is not None
    shown = str(getattr(text.content, "value", ""))
    assert [value for value in (*values(begun()).values(), *values(CREDENTIALS).values()) if value in shown] == []


# on a machine --------------------------------------------------------------------------------------------------------


class Accounts:
    """MLflow's accounts: one administrator, one password at a time."""

    def __init__(self, password: Secret) -> None:
        self.password = password

    def api(self, _url: str, _name: str, password: Secret) -> Accounts.Api:
        return Accounts.Api(self, password)

    @dataclasses.dataclass
    class Api:
        accounts: Accounts
        password: Secret

        def call(self, method: str, path: str, *, body: Mapping[str, Any] | None = None, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
            if self.password != self.accounts.password:
                raise ApiError("refused", 401, "UNAUTHENTICATED")
            if method == "PATCH":
                assert body is not None
                assert body["current_password"] == self.password.reveal()
                self.accounts.password = Secret(body["password"])
            return {}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return installed(tmp_path / "first", monkeypatch)[0]


def installed(place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Machine, Accounts]:
    made, accounts = Machine(place), Accounts(CREDENTIALS.mlflow_admin_password)
    monkeypatch.setattr(mlflow_stage, "MlflowApi", accounts.api)
    query = made.sql.query
    monkeypatch.setattr(
        made.sql, "query", lambda database, text, *more, **named: [[0]] if "FROM secrets" in text else query(database, text, *more, **named)
    )
    made.converge(made.config(), CREDENTIALS)
    return made, accounts


def in_use_is_accepted(machine: Machine) -> None:
    """The access key that MLflow's workers hold is one the store knows, with that secret."""
    held = machine.systemd.unit("mlflow.service").ran_on[f"{ETC}/mlflow/s3-credentials"].decode()
    key, secret = (line.partition(" = ")[2] for line in held.splitlines()[1:])
    assert key in machine.data.keys, "the key in use is dead"
    assert machine.data.keys[key][0].reveal() == secret


def on_disk(machine: Machine) -> Credentials:
    return credentials_module.load_or_generate(machine.host)


def finish(machine: Machine, found: Credentials) -> Credentials:
    """What commands/rotate.py does, without its proofs."""
    while found.rotation is not None:
        machine.converge(machine.config(), found)
        in_use_is_accepted(machine)
        found = credentials_module.advance(found)
    machine.converge(machine.config(), found)
    return found


def test_workers_are_replaced_and_only_the_store_is_restarted(machine: Machine) -> None:
    unit, store = machine.systemd.unit("mlflow.service"), machine.systemd.unit("minio.service")
    starts, store_starts = unit.starts, store.starts
    last = finish(machine, begun())
    assert unit.starts == starts
    assert unit.reloads == 3
    assert store.starts == store_starts + 1
    assert machine.on_old_inputs() == []
    assert set(machine.data.keys) == {last.s3_access_key}
    assert database.scram_matches(machine.sql.roles["mlflow_user"][3], last.postgres_password.reveal())
    assert engine.plan(machine.host, machine.stack(machine.config())).changes == ()
    text = machine.host.nodes[f"{ETC}/mlflow/kek-passphrase"].content.decode()
    assert text.splitlines() == [last.kek_passphrase.reveal()], "the old passphrase no longer opens anything"


def test_the_administrator_has_the_new_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, accounts = installed(tmp_path, monkeypatch)
    last = finish(made, begun("mlflow"))
    assert accounts.password == last.mlflow_admin_password


def test_killed_after_every_act_it_is_finished_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash_at, everything = 0, begun()
    while True:
        crash_at += 1
        made, accounts = installed(tmp_path / str(crash_at), monkeypatch)
        made.host.crash_at = made.host.acts + crash_at
        try:
            finish(made, everything)
        except Crashed:
            made.host.revive()
        else:
            break
        in_use_is_accepted(made)
        found = on_disk(made)
        assert values(found).keys() == values(everything).keys()
        last = finish(made, found)
        assert (made.on_old_inputs(), set(made.data.keys)) == ([], {last.s3_access_key})
        assert accounts.password == last.mlflow_admin_password
        assert engine.plan(made.host, made.stack(made.config())).changes == ()
    assert crash_at > 20


def test_turned_back_after_any_step_the_old_values_are_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for failing in (Stage.PENDING, Stage.CURRENT):
        made, accounts = installed(tmp_path / failing.value, monkeypatch)
        found = begun()
        while found.rotation is not None and found.rotation.stage is not failing:
            made.converge(made.config(), found)
            found = credentials_module.advance(found)
        made.converge(made.config(), found)
        last = finish(made, credentials_module.roll_back(found))
        assert values(last) == values(CREDENTIALS)
        assert set(made.data.keys) == {CREDENTIALS.s3_access_key}
        assert accounts.password == CREDENTIALS.mlflow_admin_password
        assert made.on_old_inputs() == []


def test_killed_anywhere_and_then_turned_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers may have read the new secrets with nobody left to note it: they are replaced again."""
    crash_at, crashed = 0, True
    while crashed:
        crash_at, crashed = crash_at + 1, False
        made, accounts = installed(tmp_path / str(crash_at), monkeypatch)
        found = begun()
        made.converge(made.config(), found)
        made.host.crash_at = made.host.acts + crash_at
        try:
            made.converge(made.config(), credentials_module.advance(found))
        except Crashed:
            crashed = True
        made.host.revive()
        last = finish(made, credentials_module.roll_back(on_disk(made)))
        assert values(last) == values(CREDENTIALS)
        assert (made.on_old_inputs(), set(made.data.keys)) == ([], {CREDENTIALS.s3_access_key})
        assert accounts.password == CREDENTIALS.mlflow_admin_password
    assert crash_at > 8


def test_a_plan_of_a_rotation_under_way_shows_no_value(machine: Machine) -> None:
    found = begun()
    shown = str(engine.plan(machine.host, machine.stack(machine.config(), found)))
    assert found.rotation is not None
    assert [value for value in (*values(found).values(), *values(found.rotation.other).values()) if value in shown] == []


# services that are not ours ------------------------------------------------------------------------------------------


def test_secrets_of_the_users_own_files_take_the_place_of_ours() -> None:
    external = External(("theirs", Secret("their-secret")), Secret("their-password"))
    found = external.adopted(CREDENTIALS)
    assert (found.s3_access_key, found.s3_secret_key.reveal(), found.postgres_password.reveal()) == ("theirs", "their-secret", "their-password")
    assert found.kek_passphrase == CREDENTIALS.kek_passphrase


# workers -------------------------------------------------------------------------------------------------------------


def test_the_status_line_of_the_service() -> None:
    assert workers.parse_status("generation=3 failed_reloads=1 workers=12,345") == workers.Workers(1, (12, 345))
    assert workers.parse_status("stopping") == workers.Workers(0, ())


def test_when_a_process_started() -> None:
    line = "203 (python -c (x) y) S 135 130 130 0 -1 4194304 9 0 0 0 1 2 0 0 20 0 9 0 123456 1 2 3"
    assert workers.parse_start(line) == 1234.56
    assert workers.parse_start("") is None
    assert workers.parse_uptime("1234.57 99.00\n") == 1234.57


# ages ----------------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 23, 12, tzinfo=timezone.utc)


def dated(days: int) -> str:
    return (NOW - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_what_is_due() -> None:
    dates = {**dict.fromkeys(credentials_module.names(), dated(10)), "webhook-key": dated(90)}
    assert secret_age.due(dates, "90d", NOW) == ("mlflow",)
    assert secret_age.due(dates, "13w", NOW) == ()
    assert secret_age.due(dates, "10d", NOW) == EVERYTHING
    assert secret_age.due({}, "10d", NOW) == EVERYTHING, "of unknown age"
    with pytest.raises(ConfigError, match="every"):
        secret_age.due(dates, None, NOW)


def test_ages_are_shown_with_what_is_due_and_what_is_unfinished() -> None:
    dates = {**dict.fromkeys(credentials_module.names(), dated(1)), "s3-access-key": dated(95)}
    found = secret_age.ages(dates, config({"rotation": {"every": "90d"}}), NOW)
    assert [each.name for each in found if each.due] == ["s3-access-key"]
    text = render.ages_text(found, "2026-11-23T10:00:00Z")
    assert "95 days: s3-access-key" in text
    assert "due for new ones: s3-access-key" in text
    assert "begun at 2026-11-23T10:00:00Z is not finished" in text
    assert render.ages_json(found)[0] == {"name": "s3-access-key", "since": dated(95), "days": 95, "due": True}
    assert {each.due for each in secret_age.ages(dates, config(), NOW)} == {None}


def test_ages_of_what_a_configuration_does_not_have_are_left_out() -> None:
    dates = dict.fromkeys(credentials_module.names(), dated(1))
    found = {each.name for each in secret_age.ages(dates, config({"mlflow": {"auth": {"enabled": False}}}), NOW)}
    assert set(dates) - found == {"mlflow-admin-password"}


def test_the_report_names_and_never_shows() -> None:
    done = Rotated(("s3-access-key", "webhook-key"), ("s3-access-key",), (("postgres", "not ours"),), True, 12.34)
    assert render.rotated_json(done) == {
        "rotated": ["s3-access-key", "webhook-key"],
        "refused": ["s3-access-key"],
        "skipped": [{"group": "postgres", "why": "not ours"}],
        "finished_interrupted": True,
        "seconds": 12.3,
    }
    text = render.rotated_text(done)
    assert "tried and is refused" in text.splitlines()[1]
    assert "refused" not in text.splitlines()[2]
    assert ROOT not in text
