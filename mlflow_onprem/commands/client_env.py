"""What a client needs, ready to paste into its shell, its notebook or its .env file."""

from __future__ import annotations

import ipaddress
import re
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
    """The variables in the words of one shell, every value as it is, whatever stands in it."""
    write = {"sh": _sh, "fish": _fish, "powershell": _powershell, "dotenv": _dotenv, "notebook": _notebook}[shell]
    head = [f"# {note}" for note in notes] + (["import os", ""] if shell == "notebook" else [])
    return "\n".join([*head, *(write(name, value) for name, value in pairs.items())])


def _sh(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _fish(name: str, value: str) -> str:
    if shlex.quote(value) == value:
        return f"set -gx {name} {value}"
    # In fish a backslash escapes in single quotes, too.
    return "set -gx {} '{}'".format(name, re.sub(r"([\\'])", r"\\\1", value))


def _powershell(name: str, value: str) -> str:
    # PowerShell ends a string at typographic quotes as well; doubled, each stands for itself.
    return "$env:{} = '{}'".format(name, re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", value))


def _dotenv(name: str, value: str) -> str:
    if shlex.quote(value) == value:
        return f"{name}={value}"
    return "{}='{}'".format(name, re.sub(r"([\\'])", r"\\\1", value))


def _notebook(name: str, value: str) -> str:
    return f"os.environ[{name!r}] = {value!r}"
