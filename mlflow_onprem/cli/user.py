"""user add, list, passwd, remove, grant."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from mlflow_onprem.cli.options import ConfigOption, JsonOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.prompt import ask, read_password
from mlflow_onprem.cli.session import session
from mlflow_onprem.core.errors import ConfigError, ExitCode

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.", show_default=False)]


def add(
    name: NameArgument,
    admin: Annotated[bool, typer.Option("--admin", help="One more administrator: may read, change and delete everything.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Make an account: it may create experiments and models, owns those, and sees what [mlflow.auth] default_permission says."""
    from mlflow_onprem.stack.mlflow_connection import as_administrator
    from mlflow_onprem.users import command, render

    with session(config) as run:
        api, auth = as_administrator(run.host, run.config), run.config.mlflow.auth
        command.check_name(name)
        command.must_be_free(api, name)
        command.add(api, auth, name, read_password(name), admin=admin)
    emit("user add", {"name": name, "admin": admin, "role": command.ROLE}, render.added_text(name, auth, admin=admin), as_json=as_json)
    return ExitCode.OK


def list_(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show the accounts, who is an administrator, and what each owns."""
    from mlflow_onprem.stack.mlflow_connection import as_administrator
    from mlflow_onprem.users import command, render

    with session(config) as run:
        found = command.accounts(as_administrator(run.host, run.config))
    emit("user list", {"accounts": [dataclasses.asdict(each) for each in found]}, render.list_text(found), as_json=as_json)
    return ExitCode.OK


def passwd(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Set a new password for an account."""
    from mlflow_onprem.stack.mlflow_connection import as_administrator
    from mlflow_onprem.users import command, render

    with session(config) as run:
        api, auth = as_administrator(run.host, run.config), run.config.mlflow.auth
        command.not_ours(api, name)
        command.must_exist(api, name)
        command.new_password(api, name, read_password(name))
    emit("user passwd", {"name": name, "old_one_passes_for_seconds": auth.cache_seconds}, render.passwd_text(name, auth), as_json=as_json)
    return ExitCode.OK


def remove(
    name: NameArgument,
    give_to: Annotated[
        str | None, typer.Option("--give-to", metavar="OTHER", help="Hand over what it owns to that account.", show_default=False)
    ] = None,
    leave: Annotated[bool, typer.Option("--leave", help="What it owns stays; only administrators manage it then.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Remove an account. No experiment, run or model goes with it: say who has them from then on."""
    from mlflow_onprem.stack.mlflow_connection import as_administrator
    from mlflow_onprem.users import command, render

    if give_to is not None and leave:
        raise ConfigError("--give-to and --leave exclude each other")
    with session(config) as run:
        api, auth = as_administrator(run.host, run.config), run.config.mlflow.auth
        command.not_ours(api, name)
        command.must_exist(api, name)
        if give_to == name:
            raise ConfigError(f"{name} cannot be given its own", "name another account")
        owned = command.owned_by(api, name)
        if owned and give_to is None and not leave:
            give_to = ask(*render.heir_question(name, owned)) or None
        if give_to is not None:
            command.must_exist(api, give_to)
        gone = command.remove(api, name, owned, give_to)
    body = dataclasses.asdict(gone) | {"password_passes_for_seconds": auth.cache_seconds}
    emit("user remove", body, render.removed_text(gone, auth), as_json=as_json)
    return ExitCode.OK


def grant(
    name: NameArgument,
    experiment: Annotated[str, typer.Argument(metavar="EXPERIMENT", help="Its name or its id.", show_default=False)],
    permission: Annotated[
        str, typer.Argument(metavar="PERMISSION", help="READ, USE, EDIT, MANAGE, DENY, or DEFAULT to take the grant back.", show_default=False)
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say what an account may do with one experiment."""
    from mlflow_onprem.stack.mlflow_connection import as_administrator
    from mlflow_onprem.users import command, render

    with session(config) as run:
        given = command.grant(as_administrator(run.host, run.config), name, experiment, permission)
        text = render.granted_text(given, run.config.mlflow.auth)
    emit("user grant", dataclasses.asdict(given), text, as_json=as_json)
    return ExitCode.OK
