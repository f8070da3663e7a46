"""What a client needs: names and values of its environment."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from mlflow_onprem.core.errors import NotVisible, OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.settings import addresses
from mlflow_onprem.settings import credentials as credentials_module
from mlflow_onprem.settings import facts as facts_module
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.stack import inputs
from mlflow_onprem.stack.mlflow import public_store_url

FILL_IN = "FILL-IN"


def variables(host: Host, config: Config, user: str | None) -> tuple[dict[str, str], list[str]]:
    """Names and values, and what a person should know about them.

    Raises OnPremError where the stack was never installed.
    """
    facts = facts_module.gather(host, config)
    pairs = {"MLFLOW_TRACKING_URI": addresses.tracking_uri(host, config, facts)}
    notes = addresses.remarks(config, facts)
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


def otlp(pairs: Mapping[str, str], experiment: str) -> tuple[dict[str, str], list[str]]:
    """What an OpenTelemetry program needs beside `pairs` to send its traces into one experiment (its id), and what to know about it."""
    headers, notes = f"x-mlflow-experiment-id={experiment}", []
    if user := pairs.get("MLFLOW_TRACKING_USERNAME"):
        password = pairs["MLFLOW_TRACKING_PASSWORD"]
        account = FILL_IN
        if FILL_IN in (user, password):
            ask = "import base64, getpass, urllib.parse as u; a = input('account: ') + ':' + getpass.getpass()"
            show = "print(u.quote(base64.b64encode(a.encode()).decode(), safe=''))"
            notes.append(f'put in place of {FILL_IN} in the headers what this prints: python3 -c "{ask}; {show}"')
        else:
            account = quote(base64.b64encode(f"{user}:{password}".encode()).decode(), safe="")
        # The variable holds a list in the form of HTTP's baggage: what is no plain letter or digit is percent-encoded in it.
        headers += f",Authorization=Basic%20{account}"
    return {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{pairs['MLFLOW_TRACKING_URI']}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": headers,
        # Otherwise MLflow's own client would send its traces there as well, all into that experiment.
        "MLFLOW_ENABLE_OTLP_EXPORTER": "false",
    }, notes


def direct_names(pairs: Mapping[str, str]) -> tuple[str, ...]:
    """The hosts of these addresses, which a company's proxy is no way to."""
    found = (urlsplit(pairs[name]).hostname for name in ("MLFLOW_TRACKING_URI", "MLFLOW_S3_ENDPOINT_URL") if name in pairs)
    return tuple(dict.fromkeys(each for each in found if each))


def next_steps(host: Host, config: Config, facts: Facts) -> list[str]:
    """What install says at its end."""
    lines = [f"MLflow is at {addresses.tracking_uri(host, config, facts)}. What clients set: sudo mlflow-onprem client-env"]
    lines += [f"WARNING: {each}" for each in addresses.remarks(config, facts)]
    if not config.mlflow.auth.enabled:
        lines += [
            "WARNING: accounts are off ([mlflow.auth] enabled = false). Everybody who reaches that address can read, change and delete",
            "         every run, model and artifact, and uses whatever hole MLflow has next. Turn them on unless this network is yours alone.",
        ]
    return lines
