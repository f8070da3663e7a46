"""What a person sees while resources settle: one line each, the lists side by side, a bar for a transfer."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from mlflow_onprem.core.engine import Event

if TYPE_CHECKING:
    from rich.table import Table

WORDS = {"create": "created", "update": "updated", "delete": "removed", "unknown": "done"}


class Progress(Protocol):
    """Takes events while a command runs; used as a context manager."""

    def __enter__(self) -> Progress: ...
    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None: ...
    def event(self, event: Event) -> None: ...
    def say(self, text: str) -> None: ...
    def transfer(self, what: str, done: int, total: int) -> None: ...


def make(*, verbose: bool) -> Progress:
    """Live lines on a terminal, plain ones elsewhere; always on standard error."""
    return Live(verbose=verbose) if sys.stderr.isatty() else Plain(verbose=verbose)


def line(event: Event) -> str:
    """One settled resource in words."""
    what = "failed" if event.kind == "failed" else WORDS[event.change.action] if event.change else "unchanged"
    return f"{event.lane:<18} {event.resource} {what} ({event.seconds:.1f} s)"


class Plain:
    """One line for every change, with the seconds since the start."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._started = time.monotonic()
        self._tenths: dict[str, int] = {}

    def __enter__(self) -> Plain:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def event(self, event: Event) -> None:
        if event.kind != "start" and (event.change or event.kind == "failed" or self._verbose):
            self.say(line(event))

    def say(self, text: str) -> None:
        # What is being done to a host does not stop because the reader of these lines (`2>&1 | head`) is gone.
        with contextlib.suppress(OSError):
            print(f"[{time.monotonic() - self._started:6.1f} s] {text}", file=sys.stderr, flush=True)

    def transfer(self, what: str, done: int, total: int) -> None:
        if total and self._verbose and done * 4 // total > self._tenths.get(what, 0):
            self._tenths[what] = done * 4 // total
            self.say(f"{what}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")


class Live:
    """Settled resources scroll by; below them, for each list, what it is at and for how long."""

    def __init__(self, *, verbose: bool) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        self._verbose = verbose
        self._console = Console(stderr=True, highlight=False)
        self._live = RichLive(console=self._console, get_renderable=self._render, refresh_per_second=8, transient=True)
        self._at: dict[str, tuple[str, float]] = {}
        self._transfers: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Live:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._live.__exit__(kind, value, trace)

    def event(self, event: Event) -> None:
        with self._lock:
            if event.kind == "start":
                self._at[event.lane] = (event.resource, time.monotonic())
                return
            self._at.pop(event.lane, None)
            self._transfers.pop(event.resource, None)
        if event.change or event.kind == "failed" or self._verbose:
            mark, style = ("✗", "red") if event.kind == "failed" else ("✓", "green") if event.change else ("·", "dim")
            self._console.print(f"[{style}]{mark}[/] {line(event)}")

    def say(self, text: str) -> None:
        self._console.print(f"[yellow]…[/] {text}")

    def transfer(self, what: str, done: int, total: int) -> None:
        with self._lock:
            self._transfers[what] = (done, total)

    def _render(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        grid = Table.grid(padding=(0, 1))
        with self._lock:
            for lane, (resource, since) in self._at.items():
                done, total = self._transfers.get(resource, (0, 0))
                bar: ProgressBar | str = ProgressBar(total=total, completed=done, width=24) if total else ""
                grid.add_row(f"[cyan]{lane}[/]", resource, f"{time.monotonic() - since:.0f} s", bar)
        return grid
