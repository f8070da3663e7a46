"""Accounts: what is refused before MLflow is asked, what is asked of MLflow, and what it says back in plain words."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from mlflow_onprem.cli.prompt import read_password
from mlflow_onprem.clients.mlflow_api import ApiError, MlflowApi
from mlflow_onprem.core.errors import ConfigError, ExitCode, OnPremError, Refused
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings import credentials
from mlflow_onprem.settings.config import AuthSection, Config, MlflowSection
from mlflow_onprem.stack.mlflow_connection import as_administrator, local_url
from mlflow_onprem.users import command
from tests.fakes import FakeHost
from tests.web import Reply, Request, as_json, serve

GOOD = Secret("a-long-enough-one")


class Accounts(MlflowApi):
    """MLflow's accounts in memory, with its own codes for what it refuses."""

    def __init__(self) -> None:
        super().__init__("http://unused", "admin", Secret("x"))
        self.users: dict[str, dict[str, Any]] = {"admin": {"admin": True, "password": "x", "roles": []}}
        self.roles: dict[str, dict[str, Any]] = {}
        self.grants: dict[tuple[str, str, str], str] = {}
        self.names = {"0": "Default", "1": "churn", "2": "old"}
        self.fail_at = ""

    def call(self, method: str, path: str, *, body: Any = None, query: Any = None) -> dict[str, Any]:
        if path == self.fail_at:
            raise OnPremError("broke off")
        sent = {**(body or {}), **(query or {})}
        name = sent.get("username", "")
        if name and name not in self.users and not path.endswith("users/create"):
            raise ApiError("MLflow says: not found", 404, "RESOURCE_DOES_NOT_EXIST")
        answer: dict[str, Any] = getattr(self, f"_{path.partition('/mlflow/')[2].replace('/', '_').replace('-', '_')}")(**sent) or {}
        return answer

    def _users_get(self, username: str) -> dict[str, Any]:
        return {"user": {"username": username, "is_admin": self.users[username]["admin"]}}

    def _users_create(self, username: str, password: str) -> None:
        self.users[username] = {"admin": False, "password": password, "roles": []}

    def _users_delete(self, username: str) -> None:
        del self.users[username]
        self.grants = {key: value for key, value in self.grants.items() if key[0] != username}

    def _users_update_password(self, username: str, password: str) -> None:
        self.users[username]["password"] = password

    def _users_update_admin(self, username: str, is_admin: bool) -> None:
        self.users[username]["admin"] = is_admin

    def _users_list(self) -> dict[str, Any]:
        rows = []
        for number, (name, each) in enumerate(self.users.items()):
            own = [
                {"resource_type": kind, "resource_pattern": target, "permission": what}
                for (who, kind, target), what in self.grants.items()
                if who == name
            ]
            roles = [{"name": f"__user_{number}__", "permissions": own}] + [{"name": role, "permissions": []} for role in each["roles"]]
            rows.append({"username": name, "is_admin": each["admin"], "roles": roles})
        return {"users": rows}

    def _users_permissions_list(self, username: str) -> dict[str, Any]:
        rows = [row for row in self._users_list()["users"] if row["username"] == username]
        return {"permissions": [{"role_name": role["name"], **each} for row in rows for role in row["roles"] for each in role["permissions"]]}

    def _users_permissions_grant(self, username: str, resource_type: str, resource_id: str, permission: str) -> None:
        if (username, resource_type, resource_id) in self.grants:
            raise ApiError("MLflow says: already exists", 400, "RESOURCE_ALREADY_EXISTS")
        self.grants[username, resource_type, resource_id] = permission

    def _users_permissions_revoke(self, username: str, resource_type: str, resource_id: str) -> None:
        if self.grants.pop((username, resource_type, resource_id), None) is None:
            raise ApiError("MLflow says: not found", 404, "RESOURCE_DOES_NOT_EXIST")

    def _roles_list(self, workspace: str) -> dict[str, Any]:
        return {"roles": [{"name": name, "id": each["id"]} for name, each in self.roles.items()]}

    def _roles_create(self, name: str, workspace: str, description: str) -> dict[str, Any]:
        self.roles[name] = {"id": 7, "permissions": []}
        return {"role": {"id": 7}}

    def _roles_permissions_add(self, role_id: int, **row: str) -> None:
        self.roles["people"]["permissions"].append(row)

    def _roles_assign(self, username: str, role_id: int) -> None:
        self.users[username]["roles"].append("people")

    def _experiments_search(self, max_results: int, view_type: str, page_token: str = "") -> dict[str, Any]:
        names = list(self.names.items())
        at = int(page_token or 0)
        page = {"experiments": [{"experiment_id": number, "name": name} for number, name in names[at : at + 2]]}
        return page | ({"next_page_token": str(at + 2)} if at + 2 < len(names) else {})


@pytest.mark.parametrize("name", ["ann", "ann@example.com", "a.b-c_d+e", "7"])
def test_names_that_can_be_typed(name: str) -> None:
    assert command.check_name(name) == name


@pytest.mark.parametrize("name", ["", "a:b", "ann ", "-ann", "änn", "a/b", "a\nb", "a" * 129])
def test_names_that_no_client_could_log_in_with(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be an account's name"):
        command.check_name(name)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("eleven-char", "has 11 characters"),
        ("tab\tin-the-middle", "cannot be typed"),
        ("password1234", "everybody would try"),
        ("a" * 12, "would try"),
    ],
)
def test_passwords_that_are_none(password: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refused:
        command.check_password("ann", Secret(password))
    assert password not in str(refused.value)
    assert refused.value.exit_code == ExitCode.USAGE


def test_a_name_is_no_password() -> None:
    with pytest.raises(ConfigError, match="would try"):
        command.check_password("anna.schmidt", Secret("Anna.Schmidt"))


def test_an_account_has_the_role_for_people() -> None:
    api = Accounts()
    command.add(api, AuthSection(), "ann", GOOD, admin=False)
    command.add(api, AuthSection(), "root2", GOOD, admin=True)
    assert api.users["ann"] == {"admin": False, "password": GOOD.reveal(), "roles": ["people"]}
    assert api.users["root2"]["admin"] is True
    # A client that names no experiment logs into experiment 0.
    assert api.roles["people"]["permissions"] == [{"resource_type": "experiment", "resource_pattern": "0", "permission": "EDIT"}]


def test_where_nobody_sees_others_experiment_0_is_closed_too() -> None:
    api = Accounts()
    command.add(api, AuthSection(default_permission="NO_PERMISSIONS"), "ann", GOOD, admin=False)
    assert api.roles["people"]["permissions"] == []


def test_an_administrators_change_to_the_role_stays() -> None:
    api = Accounts()
    api.roles["people"] = {"id": 7, "permissions": ["of his own"]}
    command.add(api, AuthSection(), "ann", GOOD, admin=False)
    assert api.roles["people"]["permissions"] == ["of his own"]


def test_a_name_that_is_taken() -> None:
    api = Accounts()
    with pytest.raises(OnPremError, match="there is an account admin already"):
        command.add(api, AuthSection(), "admin", GOOD, admin=False)


def test_half_an_account_is_taken_back() -> None:
    api = Accounts()
    api.fail_at = "2.0/mlflow/users/update-admin"
    with pytest.raises(OnPremError, match="broke off"):
        command.add(api, AuthSection(), "ann", GOOD, admin=True)
    assert set(api.users) == {"admin"}


def _with_ann() -> Accounts:
    api = Accounts()
    for name in ("ann", "bob"):
        command.add(api, AuthSection(), name, GOOD, admin=False)
    api.grants = {
        ("ann", "experiment", "1"): "MANAGE",
        ("ann", "experiment", "2"): "READ",
        ("ann", "experiment", "99"): "MANAGE",
        ("ann", "registered_model", "churn-model"): "MANAGE",
        ("bob", "experiment", "1"): "DENY",
    }
    return api


def test_what_an_account_owns_is_what_it_manages_and_still_exists() -> None:
    api = _with_ann()
    assert [(each.kind, each.name) for each in command.owned_by(api, "ann")] == [("experiment", "churn"), ("registered_model", "churn-model")]
    listed = {each.name: each for each in command.accounts(api)}
    assert listed["ann"].owns == {"experiment": 1, "registered_model": 1}
    assert listed["ann"].roles == ("people",)
    assert (listed["admin"].admin, listed["bob"].owns) == (True, {})


def test_what_it_owned_goes_to_the_one_named() -> None:
    api = _with_ann()
    gone = command.remove(api, "ann", command.owned_by(api, "ann"), "bob")
    assert set(api.users) == {"admin", "bob"}
    assert api.grants == {("bob", "experiment", "1"): "MANAGE", ("bob", "registered_model", "churn-model"): "MANAGE"}
    assert (gone.given_to, len(gone.owned)) == ("bob", 2)


def test_handing_over_that_broke_off_is_finished_by_the_next_run() -> None:
    api = _with_ann()
    api.fail_at = "2.0/mlflow/users/delete"
    with pytest.raises(OnPremError):
        command.remove(api, "ann", command.owned_by(api, "ann"), "bob")
    assert "ann" in api.users
    api.fail_at = ""
    command.remove(api, "ann", command.owned_by(api, "ann"), "bob")
    assert ("ann" in api.users, api.grants["bob", "experiment", "1"]) == (False, "MANAGE")


def test_a_grant_replaces_the_one_before_it() -> None:
    api = _with_ann()
    given = command.grant(api, "bob", "churn", "edit")
    assert (given.experiment, given.permission, api.grants["bob", "experiment", "1"]) == ("1", "EDIT", "EDIT")
    command.grant(api, "bob", "1", "DEFAULT")
    assert ("bob", "experiment", "1") not in api.grants


@pytest.mark.parametrize(
    ("name", "experiment", "permission", "why"),
    [("bob", "churn", "WRITE", "not a permission"), ("zed", "churn", "READ", "no account zed"), ("bob", "chum", "READ", "no experiment chum")],
)
def test_a_grant_of_what_is_not_there(name: str, experiment: str, permission: str, why: str) -> None:
    api = _with_ann()
    before = dict(api.grants)
    with pytest.raises(OnPremError, match=why):
        command.grant(api, name, experiment, permission)
    assert api.grants == before


def test_experiments_come_in_pages() -> None:
    assert Accounts().experiments() == {"0": "Default", "1": "churn", "2": "old"}


def test_an_experiment_is_named_by_name_or_by_id() -> None:
    experiments = {"0": "Default", "12": "12", "7": "8", "8": "other"}
    assert command.find_experiment(experiments, "Default") == ("0", "Default")
    assert command.find_experiment(experiments, "0") == ("0", "Default")
    assert command.find_experiment(experiments, "12") == ("12", "12")
    with pytest.raises(OnPremError, match="is the name of experiment 7 and the id of 'other'"):
        command.find_experiment(experiments, "8")
    with pytest.raises(OnPremError) as none:
        command.find_experiment(experiments, "default")
    assert none.value.hint == "did you mean Default?"


def test_a_password_is_one_line_of_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(" with spaces \r\nsecond line\n"))
    assert read_password("ann").reveal() == " with spaces "
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(ConfigError, match="no password came"):
        read_password("ann")


# the API itself ------------------------------------------------------------------------------------------------------


def test_requests_carry_the_account_and_pass_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serve(lambda _: as_json({"users": []})) as site:
        answer = MlflowApi(site.url, "admin", Secret("pässword: x")).call("POST", "2.0/mlflow/users/list", body={"a": 1}, query={"b": "c d"})
    assert answer == {"users": []}
    assert site.requests[0].account == ("admin", "pässword: x")
    assert (site.requests[0].path, json.loads(site.requests[0].body)) == ("/api/2.0/mlflow/users/list?b=c+d", {"a": 1})


@pytest.mark.parametrize(
    ("reply", "code", "why"),
    [
        ((401, "You are not authenticated", {}), "UNAUTHENTICATED", "does not accept the administrator's account"),
        (as_json({"error_code": "RESOURCE_ALREADY_EXISTS", "message": "there is one"}, 400), "RESOURCE_ALREADY_EXISTS", "MLflow says: there is one"),
        ((502, "<html>bad gateway</html>", {}), "", "bad gateway"),
        ((500, "", {}), "", "HTTP 500"),
    ],
)
def test_what_mlflow_refuses_is_said_in_words(reply: Reply, code: str, why: str) -> None:
    def answer(_: Request) -> Reply:
        return reply

    with serve(answer) as site, pytest.raises(ApiError, match=why) as refused:
        MlflowApi(site.url, "admin", Secret("hidden-password")).call("GET", "2.0/mlflow/users/get")
    assert refused.value.code == code
    assert "hidden-password" not in f"{refused.value.message} {refused.value.hint} {refused.value.output}"


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(OnPremError, match="cannot be reached") as failed:
        MlflowApi("http://127.0.0.1:9", "admin", Secret("x")).call("GET", "2.0/mlflow/users/list")
    assert "status" in failed.value.hint


@pytest.mark.parametrize(
    ("bind", "url"),
    [("0.0.0.0", "http://127.0.0.1:5000"), ("::", "http://[::1]:5000"), ("10.0.0.5", "http://10.0.0.5:5000"), ("fd00::1", "http://[fd00::1]:5000")],
)
def test_this_host_reaches_its_own_mlflow(bind: str, url: str) -> None:
    assert local_url(Config(mlflow=MlflowSection(bind=bind))) == url


def test_the_password_goes_only_to_a_running_mlflow() -> None:
    host = FakeHost()
    host.put(credentials.PATH, credentials.serialize(credentials.generate()).reveal(), 0o600)
    states = iter(["inactive", "active", "reloading"])
    host.programs["systemctl"] = lambda _: _shown(next(states))
    with pytest.raises(OnPremError, match="MLflow is not running"):
        as_administrator(host, Config())
    assert as_administrator(host, Config()).username == "admin"
    assert as_administrator(host, Config()).username == "admin"


def test_accounts_are_off_or_not_this_users_or_not_there() -> None:
    host = FakeHost()
    with pytest.raises(Refused, match="accounts are off"):
        as_administrator(host, Config(mlflow=MlflowSection(auth=AuthSection(enabled=False))))
    with pytest.raises(Refused, match="nothing is installed"):
        as_administrator(host, Config())
    host.put(credentials.PATH, "{}", 0o600)
    host.is_root = False
    host.deny.add(credentials.PATH)
    with pytest.raises(Refused, match="looked after by root"):
        as_administrator(host, Config())


def _shown(state: str) -> Any:
    from mlflow_onprem.core.host import Result

    return Result(0, f"Id=mlflow.service\nLoadState=loaded\nActiveState={state}\nExecMainStartTimestamp=Thu 1970-01-01 00:00:01 UTC\n", "")
