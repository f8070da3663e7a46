"""sandbox up, shell, status, down."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from mlflow_onprem.cli.run import JsonOption, emit
from mlflow_onprem.core.errors import ExitCode

app = typer.Typer(help="A disposable real systemd host with the stack in it, reachable from this machine.", no_args_is_help=True)
NameOption = Annotated[str, typer.Option(metavar="NAME", help="Which sandbox.")]


@app.command()
def up(
    name: NameOption = "try",
    release: Annotated[str, typer.Option(help="bookworm, trixie, jammy or noble.")] = "bookworm",
    config: Annotated[str | None, typer.Option("--config", metavar="PATH", help="A configuration for the stack in it.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Make a sandbox with the stack in it, or bring the one of that name up to date."""
    from mlflow_onprem.cli import progress
    from mlflow_onprem.sandbox import command

    with progress.make(verbose=False) as shown:
        made = command.up(name, release=release, config=Path(config) if config else None, on_progress=shown.say)
    text = (
        f"sandbox {made.name} serves at {made.url} ({made.seconds:.0f} s)\n"
        f"account: {made.account.username} / {made.account.password.reveal()}\n"
        f"look around: sudo mlflow-onprem sandbox shell --name {made.name}; throw it away: sudo mlflow-onprem sandbox down --name {made.name}"
    )
    body = dataclasses.asdict(made) | {"account": dataclasses.asdict(made.account) | {"password": made.account.password.reveal()}}
    emit("sandbox up", body, text, as_json=as_json)
    return ExitCode.OK


@app.command()
def shell(name: NameOption = "try") -> int:
    """Open a terminal inside, as root."""
    from mlflow_onprem.sandbox import command

    return command.shell(name)


@app.command()
def status(as_json: JsonOption = False) -> int:
    """List the sandboxes of this machine."""
    from mlflow_onprem.sandbox import command

    found = command.status()
    rows = [f"{each.name:<12} {'running' if each.running else 'stopped':<8} {each.url:<26} {each.release}" for each in found.sandboxes]
    text = "\n".join(rows or ["no sandboxes; make one: sudo mlflow-onprem sandbox up"])
    emit("sandbox status", dataclasses.asdict(found), text, as_json=as_json)
    return ExitCode.OK


@app.command()
def down(
    name: NameOption = "try",
    everything: Annotated[bool, typer.Option("--all", help="All sandboxes, and their bridge.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Throw a sandbox away. Built parts are kept for the next one."""
    from mlflow_onprem.sandbox import command

    gone = command.down(name, everything=everything)
    text = f"removed: {', '.join(gone.removed)}" if gone.removed else f"there is no sandbox {name}: nothing to remove"
    if gone.forwarding:
        text += f"\nIP forwarding of this machine stays on, others need it by now: {gone.forwarding}"
    emit("sandbox down", dataclasses.asdict(gone), text, as_json=as_json)
    return ExitCode.OK
