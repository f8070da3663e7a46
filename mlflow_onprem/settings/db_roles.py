"""Roles of people and programs that read (or write) MLflow's database by SQL: /etc/mlflow-onprem/db-roles.json, which backups carry along."""

from __future__ import annotations

import json
from dataclasses import dataclass

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.secret import Secret

PATH = "/etc/mlflow-onprem/db-roles.json"


@dataclass(frozen=True)
class DbRole:
    """One role. The password is kept as PostgreSQL keeps it, as a SCRAM verifier: nobody can read it here."""

    name: str
    read_only: bool
    verifier: Secret


def read(host: Host) -> tuple[DbRole, ...]:
    """All roles. Raises OnPremError where the file is damaged, NotVisible for anyone but root."""
    text = host.read(PATH)
    if text is None:
        return ()
    try:
        found = json.loads(text)
        return tuple(DbRole(str(name), bool(each["read_only"]), Secret(str(each["verifier"]))) for name, each in sorted(found["roles"].items()))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise OnPremError(
            f"{PATH} is damaged", f"put it back from a backup, or `sudo rm {PATH}` and make the roles again: mlflow-onprem db-role add"
        ) from None


def write(host: Host, roles: tuple[DbRole, ...]) -> None:
    """Replace the file."""
    values = {each.name: {"read_only": each.read_only, "verifier": each.verifier.reveal()} for each in roles}
    host.write(PATH, (json.dumps({"roles": values}, indent=1, sort_keys=True) + "\n").encode(), mode=0o600, owner="root", group="root")
