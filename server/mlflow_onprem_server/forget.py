"""`python -m mlflow_onprem_server.forget`: remove experiments that are marked deleted from the database, for good.

Standard input: {"experiments": [id, ...]}. The functions behind `mlflow gc`, for exactly these: gc itself, asked for an experiment,
also removes every other deleted run and logged model of the server.
"""

from __future__ import annotations

import json
import os
import sys

from . import environment
from .settings import SettingsError, read


def forget(experiments: list[str]) -> int:
    """Remove them with their runs, traces and datasets; one that is not there (any more) is fine. Returns how many went."""
    settings = read(os.environ)
    environment.apply_public(settings)

    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(settings.database_uri, environment.default_artifact_root(settings))
    gone = 0
    for each in experiments:
        try:
            store.get_experiment(each)
        except MlflowException as failed:
            if failed.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue
        for run in store.search_runs([each], "", ViewType.ALL):
            store._hard_delete_run(run.info.run_id)
        store._hard_delete_experiment(each)
        gone += 1
    return gone


def main() -> int:
    """Returns the exit status."""
    try:
        print(json.dumps({"forgotten": forget(json.load(sys.stdin)["experiments"])}))
    except SettingsError as error:
        print(f"mlflow_onprem_server.forget: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # one line for the operator, whatever MLflow or SQLAlchemy raised
        message = str(getattr(error, "orig", None) or error).strip().splitlines()
        print(f"mlflow_onprem_server.forget: {type(error).__name__}: {message[0] if message else ''}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
