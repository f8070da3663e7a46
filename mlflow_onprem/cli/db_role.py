"""db-role add, list, passwd, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_onprem.cli.run import ConfigOption, JsonOption, emit, exclusive
from mlflow_onprem.core.errors import ExitCode

if TYPE_CHECKING:
    from mlflow_onprem.core.secret import Secret
    from mlflow_onprem.db_role.command import Access

app = typer.Typer(
    help="Roles in MLflow's database for people and programs that want SQL: dashboards, notebooks, reports. Never in the accounts' database.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The role's name.", show_default=False)]
AskOption = Annotated[
    bool, typer.Option("--ask", help="A password of your own, by prompt or as one line on standard input; otherwise one is generated and shown once.")
]


@app.command()
def add(
    name: NameArgument,
    read_only: Annotated[bool, typer.Option("--read-only", help="It may read; otherwise it may also insert, update and delete rows.")] = False,
    ask: AskOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Make a role for MLflow's database; [postgres] allowed_networks says from where it may connect."""
    from mlflow_onprem.db_role import command as db_role
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    settings = load(config).config
    db_role.check_name(settings, name)
    password = _password(name) if ask else None
    with exclusive():
        found = db_role.add(LocalHost(), settings, name, read_only=read_only, password=password)
    return _show("db-role add", found, "made role", as_json=as_json)


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show the roles and what each may do."""
    from mlflow_onprem.db_role import command as db_role
    from mlflow_onprem.db_role import render
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    found = db_role.every(LocalHost(), load(config).config)
    emit("db-role list", {"roles": [render.access_json(each) for each in found]}, render.list_text(found), as_json=as_json)
    return ExitCode.OK


@app.command()
def passwd(name: NameArgument, ask: AskOption = False, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Give a role a new password; the old one stops at once."""
    from mlflow_onprem.db_role import command as db_role
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    settings = load(config).config
    password = _password(name) if ask else None
    with exclusive():
        found = db_role.new_password(LocalHost(), settings, name, password)
    return _show("db-role passwd", found, "new password for", as_json=as_json)


@app.command()
def remove(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Remove a role and end its connections. No data goes with it."""
    from mlflow_onprem.db_role import command as db_role
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    with exclusive():
        db_role.remove(LocalHost(), load(config).config, name)
    emit("db-role remove", {"name": name}, f"removed role {name}; its connections were ended, no data went with it", as_json=as_json)
    return ExitCode.OK


def _show(command: str, found: Access, done: str, *, as_json: bool) -> int:
    from mlflow_onprem.db_role import render

    emit(command, render.access_json(found), render.access_text(found, done), as_json=as_json)
    return ExitCode.OK


def _password(name: str) -> Secret:
    from mlflow_onprem.cli.user import read_password

    return read_password(name)
