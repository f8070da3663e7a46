"""db-role add, list, passwd, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_onprem.cli.options import ConfigOption, JsonOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.prompt import read_password
from mlflow_onprem.cli.session import exclusive, session
from mlflow_onprem.core.errors import ExitCode

if TYPE_CHECKING:
    from mlflow_onprem.db_role.command import Access

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The role's name.", show_default=False)]
AskOption = Annotated[
    bool, typer.Option("--ask", help="A password of your own, by prompt or as one line on standard input; otherwise one is generated and shown once.")
]


def add(
    name: NameArgument,
    read_only: Annotated[bool, typer.Option("--read-only", help="It may read; otherwise it may also insert, update and delete rows.")] = False,
    ask: AskOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Make a role for MLflow's database; [postgres] allowed_networks says from where it may connect."""
    from mlflow_onprem.db_role import command

    with session(config) as run:
        command.check_name(run.config, name)
        password = read_password(name) if ask else None
        with exclusive():  # not while somebody types
            found = command.add(run.host, run.config, name, read_only=read_only, password=password)
    return _show("db-role add", found, "made role", as_json=as_json)


def list_(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show the roles and what each may do."""
    from mlflow_onprem.db_role import command, render

    with session(config) as run:
        found = command.every(run.host, run.config)
    emit("db-role list", {"roles": [render.access_json(each) for each in found]}, render.list_text(found), as_json=as_json)
    return ExitCode.OK


def passwd(name: NameArgument, ask: AskOption = False, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Give a role a new password; the old one stops at once."""
    from mlflow_onprem.db_role import command

    with session(config) as run:
        password = read_password(name) if ask else None
        with exclusive():
            found = command.new_password(run.host, run.config, name, password)
    return _show("db-role passwd", found, "new password for", as_json=as_json)


def remove(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Remove a role and end its connections. No data goes with it."""
    from mlflow_onprem.db_role import command, render

    with session(config, alone=True) as run:
        command.remove(run.host, run.config, name)
    emit("db-role remove", {"name": name}, render.removed_text(name), as_json=as_json)
    return ExitCode.OK


def _show(command: str, found: Access, done: str, *, as_json: bool) -> int:
    from mlflow_onprem.db_role import render

    emit(command, render.access_json(found), render.access_text(found, done), as_json=as_json)
    return ExitCode.OK
