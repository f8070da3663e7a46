"""client-env: what a client needs, and whether what it has works."""

from __future__ import annotations

import dataclasses
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_onprem.cli.options import ConfigOption, JsonOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.session import session
from mlflow_onprem.core.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from mlflow_onprem.client.client import Client
    from mlflow_onprem.system.local_host import LocalHost


SERVER_PYTHON = "/opt/mlflow-onprem/environments/current/bin/python"


class Shell(str, Enum):
    """Forms of `client-env`."""

    sh = "sh"
    fish = "fish"
    powershell = "powershell"
    dotenv = "dotenv"
    notebook = "notebook"


def client_env(
    shell: Annotated[Shell, typer.Option(help="The form to print.")] = Shell.sh,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="For this account; its password is left to be filled in.")] = None,
    otlp: Annotated[
        str | None,
        typer.Option(metavar="EXPERIMENT-ID", help="Also for OpenTelemetry programs: their traces go to this experiment.", show_default=False),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="On a client: try what its environment says, and say what is wrong.")] = False,
    uri: Annotated[
        str | None, typer.Option(metavar="URL", help="With --check: this server instead of MLFLOW_TRACKING_URI.", show_default=False)
    ] = None,
    python: Annotated[
        str | None, typer.Option(metavar="PATH", help="With --check: the Python whose MLflow is the client.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Print what a client needs, ready to paste. As root it hands the administrator's account over."""
    if otlp is not None and (check or not otlp.isdigit()):
        hint = "experiment 0 is MLflow's Default; the number of any other stands in its page's address: .../#/experiments/NUMBER"
        raise ConfigError("--otlp goes without --check" if check else f"--otlp takes the id of an experiment, a number, not {otlp!r}", hint)
    if check:
        return _check(uri, user, python, config, as_json=as_json)
    if uri is not None or python is not None:
        raise ConfigError("--uri and --python go with --check")
    from mlflow_onprem.client import env as command
    from mlflow_onprem.client.forms import form

    with session(config) as run:
        pairs, notes = command.variables(run.host, run.config, user)
    direct = command.direct_names(pairs)
    if otlp is not None:
        more, remarks = command.otlp(pairs, otlp)
        pairs, notes = pairs | more, notes + remarks
    body = {"variables": pairs, "notes": notes, "no_proxy": direct}
    emit("client-env", body, form(shell.value, pairs, notes, direct), as_json=as_json)
    return ExitCode.OK


def _check(uri: str | None, user: str | None, python: str | None, config: str | None, *, as_json: bool) -> int:
    from mlflow_onprem.client import check as client_check
    from mlflow_onprem.client.render import checked_text
    from mlflow_onprem.client.version import installed
    from mlflow_onprem.system.local_host import LocalHost

    host = LocalHost()
    client, on_server = _client(host, uri, user, config)
    done = client_check.check(client, installed(host, os.environ, python or (SERVER_PYTHON if on_server else None)))
    body = {"healthy": done.healthy, **dataclasses.asdict(done)}
    emit("client-env", body, checked_text(done), as_json=as_json)
    return ExitCode.OK if done.healthy else ExitCode.UNHEALTHY


def _client(host: LocalHost, uri: str | None, user: str | None, config: str | None) -> tuple[Client, bool]:
    """The environment, below what the command line says; on the server itself (True) what `client-env` would print."""
    from mlflow_onprem.cli.prompt import read_password
    from mlflow_onprem.client import check as client_check
    from mlflow_onprem.client.env import variables
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.settings.credentials import PATH

    environ = dict(os.environ)
    on_server = False
    if uri is not None:
        environ["MLFLOW_TRACKING_URI"] = uri
    elif not environ.get("MLFLOW_TRACKING_URI") and host.is_root and host.stat(PATH) is not None:
        environ |= variables(host, load(config).config, None)[0]
        on_server = True
    if user is not None:
        if environ.get("MLFLOW_TRACKING_USERNAME") != user or not environ.get("MLFLOW_TRACKING_PASSWORD"):
            environ["MLFLOW_TRACKING_PASSWORD"] = read_password(user, again=False).reveal()
        environ["MLFLOW_TRACKING_USERNAME"] = user
    return client_check.read_client(environ, Path.home()), on_server
