"""What every worker has in common, imported once in the process that the workers are forked from.

The modules' memory is shared then, and a new worker serves in half a second instead of three.
Nothing here may read a secret, start a thread or open a connection: those belong to a worker.
"""

from __future__ import annotations

import gc
import importlib
import os
import warnings

from . import environment, orphans
from .settings import SettingsError, read

MODULES = (
    "mlflow.server.fastapi_app",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "sqlalchemy.dialects.postgresql.psycopg",
    "boto3",
    "s3transfer",
    "uvloop",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "mlflow_onprem_server.drain",
    "mlflow_onprem_server.artifacts",
    "mlflow_onprem_server.downloads",
)


def _preload() -> None:
    try:
        settings = read(os.environ)
    except SettingsError:
        return  # the supervisor has refused these settings already
    # MLflow reads some of them while it is imported.
    environment.apply_public(settings)
    # MLflow's business, not the operator's, and said again by every worker.
    warnings.filterwarnings("ignore", message="starlette.middleware.wsgi is deprecated")
    for module in (*MODULES, "mlflow.server.auth") if settings.auth else MODULES:
        importlib.import_module(module)
    # The collector must not write into pages that the workers share.
    gc.collect()
    gc.freeze()


orphans.tie_to_supervisor()
orphans.tie_children()
_preload()
