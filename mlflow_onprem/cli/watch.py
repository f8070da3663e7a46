"""status --watch: the same look, again every two seconds, until somebody has seen enough."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from mlflow_onprem.core.errors import ExitCode
from mlflow_onprem.status import render

if TYPE_CHECKING:
    from mlflow_onprem.stack.health import Probe, Verdict
    from mlflow_onprem.system.systemd import Systemd

PAUSE = 2.0  # seconds between two looks
END = "\x04"  # Ctrl-D, and a terminal that is gone
ENDS = ("q", "Q", "\x03", END)


def watch_status(systemd: Systemd, asked: Sequence[Probe]) -> int:
    """Show the services in place on a terminal, where q or Ctrl-C ends it; elsewhere a line each time, until a signal ends it."""
    from mlflow_onprem.stack import health

    def look() -> Sequence[Verdict]:
        systemd.forget()
        return health.look(systemd, asked)

    with contextlib.suppress(KeyboardInterrupt):
        if sys.stdout.isatty() and sys.stdin.isatty():
            _live(lambda: render.status_text(look()))
        else:
            while True:
                states = (f"{each.name} {'ok' if each.healthy else f'NOT HEALTHY ({each.detail})'}" for each in look())
                print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {', '.join(states)}", flush=True)
                time.sleep(PAUSE)
    return ExitCode.OK


def _live(look: Callable[[], str]) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    with _single_keys(), Live(console=console, auto_refresh=False, screen=False) as shown:
        while True:
            text = f"{look()}\n\n{time.strftime('%H:%M:%S')}, again every {PAUSE:.0f} s; q ends"
            shown.update(Text(text), refresh=True)
            if _key_within(PAUSE):
                return


def _key_within(seconds: float) -> str:
    """The key that ends it, or nothing once the time is over; other keys do nothing."""
    import select

    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0]:
            # Past Python's own buffer, which select does not see.
            key = os.read(sys.stdin.fileno(), 1).decode(errors="replace") or END
            if key in ENDS:
                return key
    return ""


@contextlib.contextmanager
def _single_keys() -> Iterator[None]:
    """Keys come one by one and unseen; Ctrl-C stays Ctrl-C."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
