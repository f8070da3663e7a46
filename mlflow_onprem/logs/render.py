"""Lines of logs as a person reads them, coloured on a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlflow_onprem.logs.read import Line

if TYPE_CHECKING:
    from rich.text import Text

COLORS = {"minio": "magenta", "postgres": "blue", "mlflow": "cyan", "stack": "green"}
LEVELS = {"emerg": "bold red", "alert": "bold red", "critical": "bold red", "error": "red", "warning": "yellow", "debug": "dim"}
NOTHING = "nothing was written in that time"


def lines_json(found: Sequence[Line]) -> dict[str, Any]:
    """Times in ISO 8601."""
    return {"lines": [{"time": each.time.isoformat(), "service": each.service, "level": each.level, "text": each.text} for each in found]}


def plain(line: Line) -> str:
    """One line, in this machine's time."""
    return f"{_stamp(line)} {line.service:<8} {_indented(line.text)}"


def coloured(line: Line) -> Text:
    """The same for a terminal."""
    from rich.text import Text

    return Text.assemble(
        (_stamp(line), "dim"), " ", (f"{line.service:<8}", COLORS[line.service]), " ", (_indented(line.text), LEVELS.get(line.level, ""))
    )


def _stamp(line: Line) -> str:
    return line.time.astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * 33)
