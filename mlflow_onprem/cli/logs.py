"""logs: what the services wrote, in one stream."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_onprem.cli.options import ConfigOption, JsonOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.session import session
from mlflow_onprem.core.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from mlflow_onprem.logs.read import Line

COUNT = 200  # lines, unless --since asks for all from a time on


class Service(str, Enum):
    """Whose logs."""

    minio = "minio"
    postgres = "postgres"
    mlflow = "mlflow"


def logs(
    service: Annotated[Service | None, typer.Argument(help="One service; otherwise all.", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From then on: 10m, 2h, today, '2026-11-20 14:00'.", show_default=False)] = None,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", min=1, help="The last so many. [default: 200; with --since all]", show_default=False)
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show what the services wrote, merged in order of time: the journal, and PostgreSQL's own file."""
    from mlflow_onprem.logs import follow as logs_follow
    from mlflow_onprem.logs import read as command
    from mlflow_onprem.logs import render

    if follow and as_json:
        raise ConfigError("--json prints one object and ends; it does not follow", "leave out --follow, or --json")
    with session(config) as run:
        where = command.sources(run.host, run.config, service.value if service else None, _groups())
        if where.note:
            print(where.note, file=sys.stderr)
        start = command.since_seconds(run.host, since) if since is not None else None
        count = lines if lines is not None or since is not None else COUNT
        if follow:
            try:
                for batch in logs_follow.follow(run.host, where, since=start, count=count):
                    _show(batch)
            except KeyboardInterrupt:  # the way to end it
                return ExitCode.OK
        found = command.read(run.host, where, since=start, count=count)
    if as_json:
        emit("logs", render.lines_json(found), "", as_json=True)
        return ExitCode.OK
    _show(found)
    if not found:
        print(render.NOTHING, file=sys.stderr)
    return ExitCode.OK


def _show(found: Iterable[Line]) -> None:
    from mlflow_onprem.logs import render

    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        for each in found:
            print(render.plain(each))
        sys.stdout.flush()
        return
    from rich.console import Console

    console = Console(highlight=False)
    for each in found:
        console.print(render.coloured(each), soft_wrap=True)


def _groups() -> list[str]:
    import contextlib
    import grp

    names = []
    for each in {os.getegid(), *os.getgroups()}:
        with contextlib.suppress(KeyError):
            names.append(grp.getgrgid(each).gr_name)
    return names
