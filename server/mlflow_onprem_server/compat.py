"""What releases of MLflow before the pinned one lack: a host on its way up runs one of them until its upgrade (3.14 and later are tried)."""

from __future__ import annotations

import configparser
import os
import secrets
import tempfile
from importlib.metadata import version
from typing import Any

# From here on the administrator's password may come by environment, and the file of the accounts need not hold one.
_PASSWORD_BY_ENVIRONMENT = (3, 16, 1)
_CONFIG = "MLFLOW_AUTH_CONFIG_PATH"


def artifact_mixin() -> Any:
    """The class that tells MLflow of uploads that stream; before 3.15 it has none, and spools every upload to a file."""
    from mlflow.store.artifact import artifact_repo

    return getattr(artifact_repo, "StreamUploadMixin", object)


def complete_accounts_file() -> None:
    """Give an older MLflow the file it wants, with a password in it; a copy of the service's own, closed to others.

    The password is never used: the schema command makes the administrator before any worker looks for one.
    """
    if tuple(int(part) for part in version("mlflow").split(".")[:3]) >= _PASSWORD_BY_ENVIRONMENT:
        return
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(os.environ[_CONFIG])
    if parser.has_option("mlflow", "admin_password"):
        return
    parser.set("mlflow", "admin_password", secrets.token_hex(32))
    descriptor, path = tempfile.mkstemp(prefix="mlflow-accounts-")
    with os.fdopen(descriptor, "w") as file:
        parser.write(file)
    os.environ[_CONFIG] = path


def make_administrator(auth: Any, password: str | None) -> None:
    """Tables for accounts and the administrator in them, by MLflow's own function or what it is made of."""
    if hasattr(auth, "bootstrap_admin_user"):
        auth.bootstrap_admin_user()
    else:
        auth.store.init_db(auth.auth_config.database_uri)
        auth.create_admin_user(auth.auth_config.admin_username, password)
