"""logs: what the services wrote, in one stream."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_onprem.cli.run import ConfigOption, JsonOption, emit
from mlflow_onprem.core.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from mlflow_onprem.logs.read import Line

COLORS = {"minio": "magenta", "postgres": "blue", "mlflow": "cyan", "stack": "green"}
LEVELS = {"emerg": "bold red", "alert": "bold red", "critical": "bold red", "error": "red", "warning": "yellow", "debug": "dim"}
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
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    if follow and as_json:
        raise ConfigError("--json prints one object and ends; it does not follow", "leave out --follow, or --json")
    host = LocalHost()
    where = command.sources(host, load(config).config, service.value if service else None, _groups())
    if where.note:
        print(where.note, file=sys.stderr)
    start = command.since_seconds(host, since) if since is not None else None
    count = lines if lines is not None or since is not None else COUNT
    if follow:
        try:
            for batch in logs_follow.follow(host, where, since=start, count=count):
                _show(batch)
        except KeyboardInterrupt:
            return ExitCode.OK
    found = command.read(host, where, since=start, count=count)
    if as_json:
        rows = [{"time": each.time.isoformat(), "service": each.service, "level": each.level, "text": each.text} for each in found]
        emit("logs", {"lines": rows}, "", as_json=True)
        return ExitCode.OK
    _show(found)
    if not found:
        print("nothing was written in that time", file=sys.stderr)
    return ExitCode.OK


def _show(found: Iterable[Line]) -> None:
    """A line each, in this machine's time; coloured on a terminal."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        for each in found:
            print(f"{_stamp(each)} {each.service:<8} {_indented(each.text)}")
        sys.stdout.flush()
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for each in found:
        text = Text.assemble(
            (_stamp(each), "dim"), " ", (f"{each.service:<8}", COLORS[each.service]), " ", (_indented(each.text), LEVELS.get(each.level, ""))
        )
        console.print(text, soft_wrap=True)


def _stamp(line: Line) -> str:
    return line.time.astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * 33)


def _groups() -> list[str]:
    import contextlib
    import grp

    names = []
    for each in {os.getegid(), *os.getgroups()}:
        with contextlib.suppress(KeyError):
            names.append(grp.getgrgid(each).gr_name)
    return names
