"""What this release carries of each version of MLflow: its locked requirements and its tables' revisions."""

from __future__ import annotations

import json

from mlflow_onprem.core.errors import ConfigError
from mlflow_onprem.resources.schema import NEWEST, SchemaState
from mlflow_onprem.settings.facts import LOCKS
from mlflow_onprem.system.package_data import names, read


def lock(version: str, own: tuple[tuple[str, str], ...] = ()) -> str:
    """The hash-locked requirements of a version of MLflow: this release's, or one of the host's own. Raises ConfigError for any other."""
    known = [name.removeprefix("mlflow-").removesuffix(".txt") for name in names("locks", "mlflow-*.txt")]
    if version in known:
        return read(f"locks/mlflow-{version}.txt")
    if version in dict(own):
        return dict(own)[version]
    raise ConfigError(
        f"mlflow.version: {version} is not one this release carries",
        f"it carries {', '.join(known)}; a lock of your own goes to {LOCKS}/mlflow-{version}.txt (docs/operations-upgrade.md)",
    )


def schema_of(version: str, *, accounts: bool) -> tuple[SchemaState, tuple[str, ...]]:
    """The tables' wanted state, and all revisions on the way there, oldest first; of a lock of the host's own MLflow itself knows them."""
    known = json.loads(read("locks/schemas.json")).get(version)
    if known is None:
        return SchemaState(NEWEST, NEWEST if accounts else None, administrator=True), ()
    return SchemaState(known["tracking"], known["auth"] if accounts else None, administrator=True), tuple(known["steps"]["tracking"].split())
