"""The app factory: what a worker process builds when it starts.

Everything happens inside `create`, because importing MLflow already reads the environment, and
because a worker that replaces another one must read the secrets as they are now.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

from . import database, environment, error_text, host_check, keyring, page, patches, webhooks
from .settings import Settings, SettingsError, read

if TYPE_CHECKING:
    from flask import Flask

    from .require_account import ASGIApp

logger = logging.getLogger("mlflow_onprem.app")

# uvicorn's own code for "would fail the same way again": the supervisor then stops the service.
_STARTUP_FAILURE = 3


def create() -> ASGIApp:
    """Build the app for the first workers of the service: when it fails, the service stops."""
    return _create(_STARTUP_FAILURE)


def create_again() -> ASGIApp:
    """Build the app for a worker that joins others: when it fails, the supervisor keeps trying."""
    return _create(1)


def _create(exit_code: int) -> ASGIApp:
    """Build MLflow's app with or without accounts; a failure is one plain line in the journal."""
    try:
        settings = read(os.environ)
        environment.apply(settings)
        database.accept_other_password()
        patches.install(accounts=settings.auth)
        from . import write_check  # imports MLflow, which reads the environment

        write_check.install()
        error_text.install()
        webhooks.install(settings.webhook_hosts)
        page.install()
        app = host_check.install(_with_accounts() if settings.auth else _without_accounts(), settings)
        keyring.install(settings)
        _open_stores(settings)
    except SettingsError as error:
        _fail(str(error), exit_code)
    except Exception as error:
        logger.exception("MLflow did not start")
        _fail(f"MLflow did not start: {type(error).__name__}", exit_code)
    # What exists now lives as long as the process: the garbage collector need not look at it again.
    gc.collect()
    gc.freeze()
    return app


def _without_accounts() -> ASGIApp:
    from mlflow.server.fastapi_app import app

    from .downloads import Downloads
    from .uploads import Uploads

    return Downloads(Uploads(cast("ASGIApp", app)))


def _with_accounts() -> ASGIApp:
    from mlflow.server import app as flask_app
    from mlflow.server import auth
    from mlflow.version import VERSION

    from .downloads import Downloads
    from .require_account import KnownCredentials, RequireAccount
    from .uploads import Uploads

    app = Downloads(Uploads(cast("ASGIApp", auth.create_app(flask_app))))
    # Shorter than MLflow's entry by more than it takes to fill both.
    known = KnownCredentials(auth.auth_config.auth_cache_ttl_seconds - 2)
    return RequireAccount(app, _Authenticate(flask_app, auth.authenticate_request), known, VERSION)


class _Authenticate:
    """Ask MLflow's configured authorization function, off the event loop: a password check takes 50 ms."""

    def __init__(self, flask_app: Flask, authenticate_request: Any) -> None:
        self._flask_app = flask_app
        self._authenticate_request = authenticate_request

    async def __call__(self, path: str, authorization: bytes, method: str) -> bool:
        from starlette.concurrency import run_in_threadpool

        passed: bool = await run_in_threadpool(self._check, path, authorization.decode("latin-1"), method)
        return passed

    def _check(self, path: str, authorization: str, method: str) -> bool:
        from werkzeug.datastructures import Authorization  # type: ignore[import-not-found]

        with self._flask_app.test_request_context(path, method=method, headers={"Authorization": authorization}):
            return isinstance(self._authenticate_request(), Authorization)


def _open_stores(settings: Settings) -> None:
    """Connect now, so that the first request does not pay for it and a dead database stops the start."""
    from mlflow.server import handlers

    handlers._get_tracking_store(settings.database_uri, environment.default_artifact_root(settings))
    handlers._get_model_registry_store(settings.database_uri)
    # boto3's first client takes a second, and each of the requests that wait for a new worker would make one of its own.
    handlers._get_artifact_repo_mlflow_artifacts().s3_client()


def _fail(message: str, exit_code: int) -> NoReturn:
    logger.error("%s", message)
    sys.exit(exit_code)
