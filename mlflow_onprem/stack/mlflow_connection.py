"""How this host reaches its own MLflow."""

from __future__ import annotations

from mlflow_onprem.clients.mlflow_api import UNIT, MlflowApi
from mlflow_onprem.core.errors import NotVisible, OnPremError, Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.settings import credentials
from mlflow_onprem.settings.config import Config
from mlflow_onprem.system.systemd import Systemd


def local_url(config: Config) -> str:
    """Where this host itself reaches its MLflow."""
    bind = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.mlflow.bind, config.mlflow.bind)  # noqa: S104  # compared, not bound
    return f"http://{f'[{bind}]' if ':' in bind and not bind.startswith('[') else bind}:{config.mlflow.port}"


def as_administrator(host: Host, config: Config) -> MlflowApi:
    """The API with the administrator's account. Raises Refused without accounts or root, OnPremError where MLflow is not up."""
    if not config.mlflow.auth.enabled:
        raise Refused(
            "accounts are off here: whoever reaches MLflow may do everything",
            "turn them on: [mlflow.auth] enabled = true in the configuration, then sudo mlflow-onprem install",
        )
    try:
        text = host.read(credentials.PATH)
    except NotVisible:
        raise Refused("accounts are looked after by root: the administrator's password is root's alone", "run it with sudo") from None
    if text is None:
        raise Refused("there are no accounts yet: nothing is installed here", "sudo mlflow-onprem install")
    # With the service down, anybody on this host could listen on its port and wait for this password.
    if not Systemd(host, (UNIT,)).status(UNIT).running:
        raise OnPremError(
            f"MLflow is not running ({UNIT})", "start the stack: sudo mlflow-onprem install; see why it is down: mlflow-onprem logs mlflow"
        )
    found = credentials.parse(text.decode())
    return MlflowApi(local_url(config), found.mlflow_admin, found.mlflow_admin_password)
