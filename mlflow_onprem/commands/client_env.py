"""What a client needs, ready to paste into its shell, its notebook or its .env file."""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Mapping

from mlflow_onprem import credentials as credentials_module
from mlflow_onprem import facts as facts_module
from mlflow_onprem.config import Config
from mlflow_onprem.errors import NotVisible, OnPremError
from mlflow_onprem.facts import Facts
from mlflow_onprem.host import Host
from mlflow_onprem.stages import inputs
from mlflow_onprem.stages.mlflow import public_store_url

FILL_IN = "FILL-IN"


def variables(host: Host, config: Config, user: str | None) -> tuple[dict[str, str], list[str]]:
    """Names and values, and what a person should know about them.

    Raises OnPremError where the stack was never installed.
    """
    facts = facts_module.gather(host, python=config.mlflow.python, wanted_postgres=config.postgres.version, postgres_port=config.postgres.port)
    pairs = {"MLFLOW_TRACKING_URI": tracking_uri(config, facts)}
    notes: list[str] = []
    try:
        found = credentials_module.parse(text.decode()) if (text := host.read(credentials_module.PATH)) is not None else None
    except NotVisible:
        found = None
        notes.append("run with sudo, this hands over the administrator's account too" if user is None else "")
    if config.mlflow.auth.enabled:
        if user is not None:
            pairs |= {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": FILL_IN}
            notes.append(f"put {user}'s password in place of {FILL_IN}")
        elif found is not None:
            pairs |= {"MLFLOW_TRACKING_USERNAME": found.mlflow_admin, "MLFLOW_TRACKING_PASSWORD": found.mlflow_admin_password.reveal()}
        elif host.is_root:
            raise OnPremError("there are no accounts yet: nothing is installed here", "sudo mlflow-onprem install")
        else:
            pairs |= {"MLFLOW_TRACKING_USERNAME": FILL_IN, "MLFLOW_TRACKING_PASSWORD": FILL_IN}
    if config.mlflow.artifacts == "direct":
        pairs["MLFLOW_S3_ENDPOINT_URL"] = public_store_url(config, facts)
        pairs["AWS_DEFAULT_REGION"] = config.minio.region
        external = inputs.read(host, config) if host.is_root else inputs.External()
        key, secret = external.s3 or ((found.s3_access_key, found.s3_secret_key) if found is not None else (FILL_IN, None))
        pairs |= {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret.reveal() if secret is not None else FILL_IN}
    return pairs, [note for note in notes if note]


def tracking_uri(config: Config, facts: Facts) -> str:
    """The address clients use: the first configured name, otherwise this host's first address."""
    name = config.mlflow.hosts[0] if config.mlflow.hosts else config.mlflow.bind
    if not config.mlflow.hosts and ipaddress.ip_address(config.mlflow.bind).is_unspecified:
        name = next((each for each in facts.names if each[:1].isdigit() and ":" not in each), facts.names[0])
    return f"http://{f'[{name}]' if ':' in name else name}:{config.mlflow.port}"


def next_steps(config: Config, facts: Facts) -> list[str]:
    """What install says at its end."""
    lines = [f"MLflow is at {tracking_uri(config, facts)}. What clients set: sudo mlflow-onprem client-env"]
    if not config.mlflow.auth.enabled:
        lines += [
            "WARNING: accounts are off ([mlflow.auth] enabled = false). Everybody who reaches that address can read, change and delete",
            "         every run, model and artifact, and uses whatever hole MLflow has next. Turn them on unless this network is yours alone.",
        ]
    return lines


def form(shell: str, pairs: Mapping[str, str], notes: list[str]) -> str:
    """The variables in the words of one shell."""
    comments = [f"# {note}" for note in notes]
    if shell == "powershell":
        return "\n".join([*comments, *(f"$env:{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in pairs.items())])
    if shell == "notebook":
        return "\n".join([*comments, "import os", "", *(f"os.environ[{name!r}] = {value!r}" for name, value in pairs.items())])
    written = {"sh": "export {}={}", "fish": "set -gx {} {}", "dotenv": "{}={}"}[shell]
    return "\n".join([*comments, *(written.format(name, value if shell == "dotenv" else shlex.quote(value)) for name, value in pairs.items())])
