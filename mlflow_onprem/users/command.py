"""Accounts of people: add, list, new password, remove, grant. MLflow keeps them; everything goes through its own API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlflow_onprem.clients.mlflow_api import ApiError, MlflowApi
from mlflow_onprem.core.errors import ConfigError, OnPremError, Refused
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.settings.config import AuthSection

#: What every account that `add` makes is given. Once it is there it is the administrators' to change.
ROLE = "people"
WORKSPACE = "default"
DEFAULT_EXPERIMENT = "0"
MINIMUM = 12  # characters: MLflow's own rule
#: The password older MLflow shipped for its administrator; MLflow refuses administrators' logins with it.
SHIPPED = "password1234"
PERMISSIONS = ("READ", "USE", "EDIT", "MANAGE", "DENY")
DEFAULT = "DEFAULT"  # no grant of one's own: mlflow.auth.default_permission
_OWN_ROLE = re.compile(r"__user_\d+__")  # where MLflow keeps the grants of one account
_KINDS = {"registered_model": "model", "gateway_secret": "gateway secret", "gateway_endpoint": "gateway endpoint"}


@dataclass(frozen=True)
class Owned:
    """One thing an account may manage: MLflow's type and id of it, and the name people know it by."""

    kind: str
    id: str
    name: str


@dataclass(frozen=True)
class Account:
    """One account, what it owns (counted by kind) and which roles it has."""

    name: str
    admin: bool
    owns: Mapping[str, int]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Removed:
    """An account that is gone, what it owned and who has that now (None: the administrators alone)."""

    name: str
    owned: tuple[Owned, ...]
    given_to: str | None


@dataclass(frozen=True)
class Granted:
    """What an account may do with one experiment from now on."""

    name: str
    experiment: str
    experiment_name: str
    permission: str
    administrator: bool


def check_name(name: str) -> str:
    """The name, if it can be one. Raises ConfigError: MLflow itself takes names that no client can log in with."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}", name):
        raise ConfigError(
            f"{name!r} cannot be an account's name",
            "letters, digits and . _ @ + - only, beginning with a letter or digit; for instance ann or ann@example.com",
        )
    return name


def check_password(name: str, password: Secret) -> None:
    """Raises ConfigError for a password that MLflow would refuse, or that is none."""
    text = password.reveal()
    if len(text) < MINIMUM:
        raise ConfigError(f"the password has {len(text)} characters; MLflow wants at least {MINIMUM}", "take a longer one; nothing was changed")
    if not text.isprintable():
        raise ConfigError("the password has characters in it that cannot be typed", "take another one; nothing was changed")
    if text.lower() in (SHIPPED, name.lower()) or len(set(text)) == 1:
        raise ConfigError("that password is the first one that everybody would try", "take another one; nothing was changed")


def exists(api: MlflowApi, name: str) -> bool:
    """Whether there is such an account."""
    try:
        api.call("GET", "2.0/mlflow/users/get", query={"username": name})
    except ApiError as refused:
        if refused.code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def must_exist(api: MlflowApi, name: str) -> None:
    """Raises OnPremError, with the names there are, for an account that is not there."""
    if not exists(api, name):
        names = sorted(each["username"] for each in api.call("GET", "2.0/mlflow/users/list")["users"])
        raise OnPremError(f"there is no account {name}", f"there are: {', '.join(names)}")


def must_be_free(api: MlflowApi, name: str) -> None:
    """Raises OnPremError for a name that is taken."""
    if exists(api, name):
        raise OnPremError(f"there is an account {name} already", f"a new password for it: sudo mlflow-onprem user passwd {name}")


def not_ours(api: MlflowApi, name: str) -> None:
    """Raises Refused for the stack's own administrator: its password stands in more places than MLflow."""
    if name == api.username:
        raise Refused(
            f"{name} is the stack's own administrator, and its password is the stack's",
            "a new one everywhere: sudo mlflow-onprem rotate-credentials --only mlflow",
        )


def add(api: MlflowApi, auth: AuthSection, name: str, password: Secret, *, admin: bool) -> None:
    """Make an account with the role for people. Half an account is removed again. Raises ConfigError, OnPremError."""
    check_name(name)
    check_password(name, password)
    must_be_free(api, name)
    role = _role(api, auth)
    api.call("POST", "2.0/mlflow/users/create", body={"username": name, "password": password.reveal()})
    try:
        api.call("POST", "3.0/mlflow/roles/assign", body={"username": name, "role_id": role})
        if admin:
            api.call("PATCH", "2.0/mlflow/users/update-admin", body={"username": name, "is_admin": True})
    except BaseException:
        api.call("DELETE", "2.0/mlflow/users/delete", body={"username": name})
        raise


def accounts(api: MlflowApi) -> tuple[Account, ...]:
    """All accounts by name, with what they own of what still exists."""
    experiments = api.experiments()
    found = []
    for user in api.call("GET", "2.0/mlflow/users/list")["users"]:
        rows = [(role["name"], each) for role in user["roles"] for each in role["permissions"]]
        counts: dict[str, int] = {}
        for each in _owned(rows, experiments):
            counts[each.kind] = counts.get(each.kind, 0) + 1
        roles = tuple(sorted(role["name"] for role in user["roles"] if not _OWN_ROLE.fullmatch(role["name"])))
        found.append(Account(user["username"], bool(user["is_admin"]), counts, roles))
    return tuple(sorted(found, key=lambda each: each.name))


def new_password(api: MlflowApi, name: str, password: Secret) -> None:
    """Set an account's password. Raises ConfigError, OnPremError."""
    check_password(name, password)
    api.call("PATCH", "2.0/mlflow/users/update-password", body={"username": name, "password": password.reveal()})


def owned_by(api: MlflowApi, name: str) -> tuple[Owned, ...]:
    """What would have no owner without this account."""
    rows = api.call("GET", "3.0/mlflow/users/permissions/list", query={"username": name})["permissions"]
    return tuple(_owned([(row["role_name"], row) for row in rows], api.experiments()))


def remove(api: MlflowApi, name: str, owned: tuple[Owned, ...], give_to: str | None) -> Removed:
    """Hand over what it owns, then remove the account; run again after an interruption it ends the same. Deletes no data."""
    for each in owned if give_to is not None else ():
        _set_grant(api, give_to or "", each.kind, each.id, "MANAGE")
    api.call("DELETE", "2.0/mlflow/users/delete", body={"username": name})
    return Removed(name, owned, give_to)


def grant(api: MlflowApi, name: str, experiment: str, permission: str) -> Granted:
    """What an account may do with an experiment, named by its name or id. Raises ConfigError, OnPremError."""
    wanted = permission.upper()
    if wanted not in (*PERMISSIONS, DEFAULT):
        raise ConfigError(
            f"{permission} is not a permission",
            f"{', '.join(PERMISSIONS)}: look, use, write runs, manage, nothing at all; {DEFAULT}: as for everybody (mlflow.auth.default_permission)",
        )
    must_exist(api, name)
    number, label = find_experiment(api.experiments(), experiment)
    _set_grant(api, name, "experiment", number, None if wanted == DEFAULT else wanted)
    administrator = bool(api.call("GET", "2.0/mlflow/users/get", query={"username": name})["user"]["is_admin"])
    return Granted(name, number, label, wanted, administrator)


def find_experiment(experiments: Mapping[str, str], wanted: str) -> tuple[str, str]:
    """Id and name of the experiment of that name, otherwise of that id. Raises OnPremError for none, and for two."""
    import difflib

    by_name = next((number for number, name in experiments.items() if name == wanted), None)
    by_id = wanted if wanted in experiments else None
    if by_name is not None and by_id is not None and by_name != by_id:
        raise OnPremError(f"{wanted} is the name of experiment {by_name} and the id of {experiments[by_id]!r}", "name it in the other way")
    number = by_name or by_id
    if number is None:
        near = difflib.get_close_matches(wanted, experiments.values(), 3, 0.5)
        raise OnPremError(
            f"there is no experiment {wanted}", f"did you mean {' or '.join(near)}?" if near else "name it as MLflow shows it, or by its id"
        )
    return number, experiments[number]


def _role(api: MlflowApi, auth: AuthSection) -> int:
    """The id of the role for people, made where it is missing.

    MLflow lets every account create experiments and models and own those. What it lacks is experiment 0, where a client logs that names
    none: the role may write there, unless nobody may see anything that is not theirs.
    """
    for role in api.call("GET", "3.0/mlflow/roles/list", query={"workspace": WORKSPACE})["roles"]:
        if role["name"] == ROLE:
            return int(role["id"])
    body = {"name": ROLE, "workspace": WORKSPACE, "description": "Everybody with an account made by `mlflow-onprem user add`."}
    made = int(api.call("POST", "3.0/mlflow/roles/create", body=body)["role"]["id"])
    if auth.default_permission != "NO_PERMISSIONS":
        row = {"role_id": made, "resource_type": "experiment", "resource_pattern": DEFAULT_EXPERIMENT, "permission": "EDIT"}
        api.call("POST", "3.0/mlflow/roles/permissions/add", body=row)
    return made


def _set_grant(api: MlflowApi, name: str, kind: str, number: str, permission: str | None) -> None:
    """MLflow only adds grants: what was there goes first."""
    target = {"username": name, "resource_type": kind, "resource_id": number}
    try:
        api.call("POST", "3.0/mlflow/users/permissions/revoke", body=target)
    except ApiError as refused:
        if refused.code != "RESOURCE_DOES_NOT_EXIST":
            raise
    if permission is not None:
        api.call("POST", "3.0/mlflow/users/permissions/grant", body={**target, "permission": permission})


def _owned(rows: list[tuple[str, dict[str, Any]]], experiments: Mapping[str, str]) -> Iterator[Owned]:
    for role, row in rows:
        kind, number = row["resource_type"], row["resource_pattern"]
        # MLflow keeps the grant of an experiment that is long gone.
        gone = kind == "experiment" and number not in experiments
        if _OWN_ROLE.fullmatch(role) and row["permission"] == "MANAGE" and number != "*" and not gone:
            yield Owned(kind, number, experiments[number] if kind == "experiment" else number)


def words(kind: str, count: int) -> str:
    """`2 experiments`, `1 model`."""
    name = _KINDS.get(kind, kind.replace("_", " "))
    return f"{count} {name}{'' if count == 1 else 's'}"
