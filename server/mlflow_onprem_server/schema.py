"""`python -m mlflow_onprem_server.schema`: bring both databases to this MLflow's schema.

Run once before the workers start, so that they do not race to create tables. It also creates the
default experiment and the administrator's account. Safe to kill and to run again: on PostgreSQL a
migration is one transaction. `--check` only looks, and answers in a fraction of a second.
"""

from __future__ import annotations

import argparse
import json
import logging.config
import os
import sys

from . import compat, environment, logs, revisions
from .settings import ADMIN_PASSWORD_FILE, Settings, SettingsError, read, read_secret

State = dict[str, dict[str, str | None] | None]


def check(settings: Settings) -> State:
    """Return the current and the wanted revision of both schemas; `auth` is None without accounts."""
    return {
        "tracking": revisions.state(settings.database_uri, revisions.TRACKING),
        "auth": revisions.state(_auth_uri(), revisions.AUTH) if settings.auth else None,
    }


def migrate(settings: Settings) -> State:
    """Create or upgrade both schemas, the default experiment and the administrator."""
    environment.apply(settings)
    password = None
    if settings.auth and settings.admin_password_file:
        password = read_secret(settings.admin_password_file, ADMIN_PASSWORD_FILE)
        os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"] = password

    from mlflow.db import upgrade
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    tracking = revisions.state(settings.database_uri, revisions.TRACKING)
    if tracking["current"] != tracking["head"]:
        # The function behind `mlflow db upgrade`, without the URI on a command line.
        upgrade.callback(settings.database_uri)
    # Opening the store creates the default experiment, with the artifact root given here.
    SqlAlchemyStore(settings.database_uri, environment.default_artifact_root(settings))
    if settings.auth:
        from mlflow.server import auth

        compat.make_administrator(auth, password)
    return check(settings)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when both schemas are (or, with --check, could be told), 1 and 2 on errors."""
    parser = argparse.ArgumentParser(prog="python -m mlflow_onprem_server.schema", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only print the current and the wanted revisions")
    options = parser.parse_args(arguments)
    try:
        settings = read(os.environ)
        if options.check:
            state = check(settings)
        else:
            logging.config.dictConfig(logs.config(access_log=False))
            state = migrate(settings)
    except SettingsError as error:
        print(f"mlflow_onprem_server.schema: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # one line for the operator, whatever MLflow, SQLAlchemy or Alembic raised
        message = str(getattr(error, "orig", None) or error).strip().splitlines()
        print(f"mlflow_onprem_server.schema: {type(error).__name__}: {message[0] if message else ''}", file=sys.stderr)
        return 1
    print(json.dumps(state))
    return 0


def _auth_uri() -> str:
    return revisions.auth_database_uri(os.environ["MLFLOW_AUTH_CONFIG_PATH"])


if __name__ == "__main__":
    sys.exit(main())
