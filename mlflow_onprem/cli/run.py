"""What the verbs share: options, the one lock, Ctrl-C, errors on screen or as JSON."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from mlflow_onprem.cli import streams
from mlflow_onprem.cli.progress import Progress
from mlflow_onprem.core import render
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.system import file_lock
from mlflow_onprem.system.file_lock import Taken
from mlflow_onprem.system.local_host import LocalHost

LOCK = "/run/mlflow-onprem.lock"

ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="PATH", help="The configuration file. [default: /etc/mlflow-onprem/config.toml]", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, progress on standard error.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show what needed no change, too.")]


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


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Hold the lock of all commands that change something. Raises Refused where another one runs."""
    if os.geteuid() != 0:
        raise Refused("this changes the system and needs root", "run it with sudo")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock.held(Path(LOCK), f"mlflow-onprem {' '.join(sys.argv[1:2])}"))
        except Taken as holder:
            raise Refused(f"another mlflow-onprem is at work ({holder})", "wait until it is done, then run this again") from None
        yield


@contextlib.contextmanager
def interruptible(host: LocalHost, progress: Progress) -> Iterator[threading.Event]:
    """Ctrl-C asks to end after what is in hand, pressed twice it ends the running programs as well."""
    stop = threading.Event()

    def pressed(_signal: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            host.stop_children()
        else:
            stop.set()
            progress.say("stopping after what is in hand; press Ctrl-C again to break it off")

    before = {each: signal.signal(each, pressed) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
