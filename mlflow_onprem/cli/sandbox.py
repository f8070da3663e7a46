"""sandbox up, shell, status, down."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from mlflow_onprem.cli.options import JsonOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.core.errors import ExitCode

NameOption = Annotated[str, typer.Option(metavar="NAME", help="Which sandbox.")]


def up(
    name: NameOption = "try",
    release: Annotated[str, typer.Option(help="bookworm, trixie, jammy or noble.")] = "bookworm",
    config: Annotated[str | None, typer.Option("--config", metavar="PATH", help="A configuration for the stack in it.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Make a sandbox with the stack in it, or bring the one of that name up to date."""
    from mlflow_onprem.cli import progress
    from mlflow_onprem.sandbox import command, render

    with progress.make(verbose=False) as shown:
        made = command.up(name, release=release, config=Path(config) if config else None, on_progress=shown.say)
    emit("sandbox up", render.up_json(made), render.up_text(made), as_json=as_json)
    return ExitCode.OK


def shell(name: NameOption = "try") -> int:
    """Open a terminal inside, as root."""
    from mlflow_onprem.sandbox import command

    return command.shell(name)


def status(as_json: JsonOption = False) -> int:
    """List the sandboxes of this machine."""
    from mlflow_onprem.sandbox import command, render

    found = command.status()
    emit("sandbox status", dataclasses.asdict(found), render.status_text(found), as_json=as_json)
    return ExitCode.OK


def down(
    name: NameOption = "try",
    everything: Annotated[bool, typer.Option("--all", help="All sandboxes, and their bridge.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Throw a sandbox away. Built parts are kept for the next one."""
    from mlflow_onprem.sandbox import command, render

    gone = command.down(name, everything=everything)
    emit("sandbox down", dataclasses.asdict(gone), render.down_text(gone, name), as_json=as_json)
    return ExitCode.OK
