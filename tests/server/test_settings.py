"""The settings, read from variables, and what MLflow is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow_onprem_server import environment, settings

GOOD = {
    "ONPREM_DATABASE_URI": "postgresql+psycopg://mlflow_user@/mlflow?host=/var/run/postgresql",
    "ONPREM_BUCKET": "mlflow",
    "MLFLOW_AUTH_CONFIG_PATH": "/etc/mlflow-onprem/auth.ini",
    "ONPREM_FLASK_SECRET_FILE": "/etc/mlflow-onprem/flask",
}


def test_defaults() -> None:
    read = settings.read(GOOD)
    assert (read.host, read.port, read.workers, read.artifacts, read.auth, read.jobs) == (
        "127.0.0.1",
        5000,
        2,
        "proxied",
        True,
        False,
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ONPREM_DATABASE_URI": ""}, "ONPREM_DATABASE_URI is not set"),
        ({"ONPREM_DATABASE_URI": "postgresql://u:hunter22@h/d"}, "contains a password"),
        ({"ONPREM_DATABASE_URI": "postgresql:///d?password=hunter22"}, "contains a password"),
        ({"ONPREM_BUCKET": ""}, "ONPREM_BUCKET is not set"),
        ({"ONPREM_PORT": "http"}, "ONPREM_PORT is 'http'"),
        ({"ONPREM_PORT": "70000"}, "from 0 to 65535"),
        ({"ONPREM_WORKERS": "0"}, "ONPREM_WORKERS is '0'"),
        ({"ONPREM_JOBS": "maybe"}, "must be true or false"),
        ({"ONPREM_ARTIFACTS": "magic"}, "proxied, presigned, direct"),
        ({"ONPREM_ARTIFACTS": "presigned"}, "ONPREM_PUBLIC_S3_URL is not set"),
        ({"ONPREM_ARTIFACTS": "presigned", "ONPREM_PUBLIC_S3_URL": "store:9000"}, "http:// or https://"),
        ({"MLFLOW_AUTH_CONFIG_PATH": ""}, "MLFLOW_AUTH_CONFIG_PATH is not set"),
        ({"ONPREM_FLASK_SECRET_FILE": ""}, "ONPREM_FLASK_SECRET_FILE is not set"),
    ],
)
def test_what_is_wrong_is_said_and_no_password_repeated(changes: dict[str, str], said: str) -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.read({**GOOD, **changes})
    assert said in str(caught.value)
    assert "hunter22" not in str(caught.value)


def test_without_accounts_their_settings_are_not_needed() -> None:
    read = settings.read({"ONPREM_DATABASE_URI": "sqlite:///x", "ONPREM_BUCKET": "b", "ONPREM_AUTH": "false"})
    assert not read.auth


def test_an_empty_or_missing_secret_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with pytest.raises(settings.SettingsError, match="cannot read"):
        settings.read_secret(file, "ONPREM_X_FILE")
    file.write_text("\n")
    with pytest.raises(settings.SettingsError, match="is empty"):
        settings.read_secret(file, "ONPREM_X_FILE")
    file.write_text("value\n")
    assert settings.read_secret(file, "ONPREM_X_FILE") == "value"


@pytest.mark.parametrize(
    ("mode", "root", "destination"),
    [
        ("proxied", "mlflow-artifacts:/", "onprem-s3://mlflow"),
        ("presigned", "mlflow-artifacts:/", "onprem-presigned-s3://mlflow"),
        ("direct", "s3://mlflow", "onprem-s3://mlflow"),
    ],
)
def test_artifact_modes(mode: str, root: str, destination: str) -> None:
    read = settings.read({**GOOD, "ONPREM_ARTIFACTS": mode, "ONPREM_PUBLIC_S3_URL": "https://store.example"})
    variables = environment.for_mlflow(read)
    assert variables["_MLFLOW_SERVER_ARTIFACT_ROOT"] == root
    assert variables["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] == destination
    assert variables["_MLFLOW_SERVER_SERVE_ARTIFACTS"] == "true"


def test_hosts_and_origins_are_lists() -> None:
    read = settings.read({**GOOD, "ONPREM_HOSTS": "ml.example, fd00::1", "ONPREM_ORIGINS": "https://app.example"})
    assert (read.hosts, read.origins) == (("ml.example", "fd00::1"), ("https://app.example",))


def test_no_secret_is_among_the_public_variables() -> None:
    names = environment.for_mlflow(settings.read(GOOD)).keys()
    assert not names & settings.SECRET_FILES.keys()
