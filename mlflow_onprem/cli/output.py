"""A result or a failure on its way to the caller: text, or the one JSON object."""

from __future__ import annotations

import sys
from typing import Any

from mlflow_onprem.cli import streams
from mlflow_onprem.core import render
from mlflow_onprem.core.errors import OnPremError


def emit(command: str, body: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print a result, as text or as the one JSON object. Raises OnPremError where it cannot be written."""
    with streams.writing():
        print(render.envelope(command, body) if as_json else text)


def report_error(error: OnPremError) -> None:
    """Show a failure; with --json on standard output as the one object."""
    if "--json" in sys.argv[1:]:
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        print(render.envelope(command, render.error_json(error)))
    print(render.error_text(error), file=sys.stderr)
