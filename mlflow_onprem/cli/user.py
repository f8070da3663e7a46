"""user add, list, passwd, remove, grant."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_onprem.cli.run import ConfigOption, JsonOption, emit
from mlflow_onprem.cli.streams import read_line
from mlflow_onprem.core.errors import ConfigError, ExitCode
from mlflow_onprem.core.secret import Secret

if TYPE_CHECKING:
    from mlflow_onprem.clients.mlflow_api import MlflowApi
    from mlflow_onprem.settings.config import Config
    from mlflow_onprem.users.command import Owned

app = typer.Typer(help="Accounts of people. A password comes by prompt, or as one line on standard input.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The account's name.", show_default=False)]


@app.command()
def add(
    name: NameArgument,
    admin: Annotated[bool, typer.Option("--admin", help="One more administrator: may read, change and delete everything.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Make an account: it may create experiments and models, owns those, and sees what [mlflow.auth] default_permission says."""
    from mlflow_onprem.users import command

    api, settings = _connect(config)
    command.check_name(name)
    command.must_be_free(api, name)
    command.add(api, settings.mlflow.auth, name, read_password(name), admin=admin)
    may = "may do everything" if admin else f"owns what it creates; of what others own: {settings.mlflow.auth.default_permission}"
    text = f"made account {name}: {may}\nwhat its client sets: mlflow-onprem client-env --user {name}"
    emit("user add", {"name": name, "admin": admin, "role": command.ROLE}, text, as_json=as_json)
    return ExitCode.OK


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show the accounts, who is an administrator, and what each owns."""
    from mlflow_onprem.users import command

    found = command.accounts(_connect(config)[0])
    width = max(len(each.name) for each in found)
    rows = []
    for each in found:
        owns = ", ".join(command.words(kind, count) for kind, count in each.owns.items())
        rows.append(
            f"{each.name:<{width}}  {'administrator' if each.admin else '-':<13}  {owns or 'owns nothing':<28}  {', '.join(each.roles)}".rstrip()
        )
    administrators = sum(each.admin for each in found)
    rows += ["", f"{len(found)} account{'' if len(found) == 1 else 's'}, {administrators} of them administrators"]
    emit("user list", {"accounts": [dataclasses.asdict(each) for each in found]}, "\n".join(rows), as_json=as_json)
    return ExitCode.OK


@app.command()
def passwd(name: NameArgument, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Set a new password for an account."""
    from mlflow_onprem.users import command

    api, settings = _connect(config)
    command.not_ours(api, name)
    command.must_exist(api, name)
    command.new_password(api, name, read_password(name))
    text = f"{name} has a new password\n{_until(settings, 'the old one')}"
    emit("user passwd", {"name": name, "old_one_passes_for_seconds": settings.mlflow.auth.cache_seconds}, text.rstrip(), as_json=as_json)
    return ExitCode.OK


@app.command()
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
    from mlflow_onprem.users import command

    if give_to is not None and leave:
        raise ConfigError("--give-to and --leave exclude each other")
    api, settings = _connect(config)
    command.not_ours(api, name)
    command.must_exist(api, name)
    if give_to == name:
        raise ConfigError(f"{name} cannot be given its own", "name another account")
    owned = command.owned_by(api, name)
    if owned and give_to is None and not leave:
        give_to = _ask_who(name, owned)
    if give_to is not None:
        command.must_exist(api, give_to)
    gone = command.remove(api, name, owned, give_to)
    fate = (
        f"{_listed(owned)}: {f'now {give_to} manages them' if give_to else 'kept; only administrators manage them now'}"
        if owned
        else "it owned nothing"
    )
    text = f"removed account {name}; {fate}\n{_until(settings, 'its password')}"
    body = dataclasses.asdict(gone) | {"password_passes_for_seconds": settings.mlflow.auth.cache_seconds}
    emit("user remove", body, text.rstrip(), as_json=as_json)
    return ExitCode.OK


@app.command()
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
    from mlflow_onprem.users import command

    api, settings = _connect(config)
    given = command.grant(api, name, experiment, permission)
    what = given.permission if given.permission != command.DEFAULT else f"{settings.mlflow.auth.default_permission}, as everybody"
    text = f"{name} has {what} on experiment {given.experiment} ({given.experiment_name})"
    if given.administrator:
        text += f"\n{name} is an administrator and may do everything all the same"
    emit("user grant", dataclasses.asdict(given), text, as_json=as_json)
    return ExitCode.OK


def read_password(name: str, *, again: bool = True) -> Secret:
    """Asked for unseen, `again`: twice, for a new one; without a terminal one line of standard input. Raises ConfigError."""
    if not sys.stdin.isatty():
        line = read_line()
        if not line.strip():
            raise ConfigError("no password came on standard input", "hand it over as one line: mlflow-onprem ... < FILE")
        return Secret(line.rstrip("\r\n"))
    import getpass

    try:
        rule = " (at least 12 characters)" if again else ""
        first = Secret(getpass.getpass(f"password of {name}{rule}: "))
        second = Secret(getpass.getpass("the same again: ")) if again else first
    except EOFError:
        raise ConfigError("no password was typed; nothing was changed") from None
    if first != second:
        raise ConfigError("the two are not the same; nothing was changed", "run it again")
    return first


def _connect(config: str | None) -> tuple[MlflowApi, Config]:
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.stack.mlflow_connection import as_administrator
    from mlflow_onprem.system.local_host import LocalHost

    settings = load(config).config
    return as_administrator(LocalHost(), settings), settings


def _ask_who(name: str, owned: tuple[Owned, ...]) -> str | None:
    what = f"{name} owns {_listed(owned)}"
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{what}; say what becomes of it", "--give-to OTHER hands it over, --leave keeps it for the administrators; no data is deleted either way"
        )
    print(f"{what}. No data is deleted; somebody has to manage it.", file=sys.stderr)
    answer: str = typer.prompt("Give it to which account? (empty: leave it to the administrators)", default="", show_default=False, err=True)
    return answer.strip() or None


def _listed(owned: tuple[Owned, ...], most: int = 5) -> str:
    from mlflow_onprem.users.command import words

    counts: dict[str, list[str]] = {}
    for each in owned:
        counts.setdefault(each.kind, []).append(each.name)
    parts = [f"{words(kind, len(names))} ({', '.join(names[:most])}{', ...' if len(names) > most else ''})" for kind, names in counts.items()]
    return " and ".join(parts)


def _until(settings: Config, what: str) -> str:
    seconds = settings.mlflow.auth.cache_seconds
    return f"{what} may pass for up to {seconds} s more (mlflow.auth.cache_seconds); to end that now: sudo systemctl reload mlflow" if seconds else ""
