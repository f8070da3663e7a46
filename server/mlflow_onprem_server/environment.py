"""Our settings in MLflow's words: the one place that knows the names MLflow's server reads.

The `_MLFLOW_SERVER_*` names are what `mlflow server` hands to its workers. They are private to
MLflow, so a new version of it is checked against this file first.
"""

from __future__ import annotations

import os

from . import compat
from .settings import SECRET_FILES, Settings, read_secret

_PROXIED_ROOT = "mlflow-artifacts:/"


def default_artifact_root(settings: Settings) -> str:
    """Return where runs of a new experiment keep their artifacts, as clients see it."""
    return f"s3://{settings.bucket}" if settings.artifacts == "direct" else _PROXIED_ROOT


def artifacts_destination(settings: Settings) -> str:
    """Return what stands behind the proxy; also with `direct`, for the runs made before it was chosen."""
    scheme = "onprem-presigned-s3" if settings.artifacts == "presigned" else "onprem-s3"
    return f"{scheme}://{settings.bucket}"


def for_mlflow(settings: Settings) -> dict[str, str]:
    """Return the environment variables, secrets left out, that MLflow's app, store and boto3 expect."""
    return {
        "_MLFLOW_SERVER_FILE_STORE": settings.database_uri,
        "_MLFLOW_SERVER_REGISTRY_STORE": settings.database_uri,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": default_artifact_root(settings),
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": artifacts_destination(settings),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        # Only a job's own process may rebuild custom scorer code.
        "_MLFLOW_IN_JOB_EXECUTOR": "false",
        # Accounts are bootstrapped by the schema command, before any worker starts.
        "_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true" if settings.jobs else "false",
        # Names and web pages are checked before MLflow (host_check.py), without regard to case and port.
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(settings.pool_size),
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": str(settings.pool_overflow),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # The launcher's log format, with journald priorities, instead of MLflow's own.
        "MLFLOW_CONFIGURE_LOGGING": "false",
    }


# Used unless the unit sets another value.
_DEFAULTS = {
    # A store that is named by host name has no name for each bucket.
    "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    # Stores other than Amazon's do not all know the checksums boto3 adds by default.
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    # numpy would start a thread and reserve memory for every core; the server does no linear algebra.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # A thread of pyarrow's allocator, in the process that the workers are forked from.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


def apply_public(settings: Settings) -> None:
    """Set this process up for importing MLflow, without any secret."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.update(for_mlflow(settings))
    if settings.auth:
        compat.complete_accounts_file()


def apply(settings: Settings) -> None:
    """Set this process up for serving: also with the secrets, read from their files now."""
    apply_public(settings)
    for variable, path in settings.secret_files.items():
        os.environ[variable] = read_secret(path, SECRET_FILES[variable])
