"""What the resources talk to besides the host itself; nothing connects before the first question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlflow_onprem.clients.object_store import ObjectStore
from mlflow_onprem.clients.sql import Sql
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.rotation import Session
from mlflow_onprem.system.systemd import Systemd


@dataclass(frozen=True)
class Connections:
    """systemd, the database's administrator and the object store's."""

    systemd: Systemd
    sql: Sql
    store: ObjectStore
    #: The database of an external server with another password of its role.
    login: Callable[[Secret], Session] | None = None
