"""What every verb works in: the configuration, read once; the host; the locks; progress and Ctrl-C; and the end of every connection."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from mlflow_onprem.core.errors import Refused
from mlflow_onprem.system import file_lock
from mlflow_onprem.system.file_lock import Taken

if TYPE_CHECKING:
    from mlflow_onprem.cli.progress import Progress
    from mlflow_onprem.settings.config import Config
    from mlflow_onprem.settings.config_file import Loaded
    from mlflow_onprem.stack.assembly import Assembly
    from mlflow_onprem.system.local_host import LocalHost

LOCK = "/run/mlflow-onprem.lock"


@dataclass
class Session:
    """One run of one verb. `given`: the path of --config. `stop` is set by Ctrl-C where `watched` is asked to end gently."""

    loaded: Loaded
    given: str | None
    host: LocalHost
    _closing: contextlib.ExitStack
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def config(self) -> Config:
        return self.loaded.config

    def reload(self) -> Config:
        """The configuration as it is now, for a verb that has replaced its file. Raises ConfigError."""
        from mlflow_onprem.settings.config_file import load

        return load(self.given).config

    def assemble(self) -> Assembly:
        """This host's lists; its database session ends with this session, however that ends."""
        from mlflow_onprem.stack.assembly import assemble

        return self._closing.enter_context(assemble(self.host, self.config))

    @contextlib.contextmanager
    def watched(self, *, verbose: bool = False, gently: bool = False) -> Iterator[Progress]:
        """Show progress. `gently`: Ctrl-C ends after what is in hand, pressed twice it ends the running programs; otherwise it raises at once."""
        from mlflow_onprem.cli import progress

        with progress.make(verbose=verbose) as shown:
            self.host.on_say, self.host.on_progress = shown.say, shown.transfer
            with _gently(self.host, shown, self.stop) if gently else contextlib.nullcontext():
                yield shown


@contextlib.contextmanager
def session(config: str | None, *, alone: bool = False, data: str | None = None, wait: float = 0, recovering: bool = False) -> Iterator[Session]:
    """Read the configuration, take the locks, and close everything at the end.

    `alone`: hold the lock of all verbs that change the host. `data`: hold the lock on stored data, under that name, after waiting up to `wait`
    seconds; `recovering`: also while an upgrade that was interrupted waits for an end.
    Raises ConfigError, Refused (a lock is taken, or this is not root).
    """
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    loaded = load(config)
    with contextlib.ExitStack() as locks, contextlib.ExitStack() as closing:
        if alone:
            locks.enter_context(exclusive())
        if data is not None:
            from mlflow_onprem.backup import lock

            locks.enter_context(lock.hold(data, wait=wait, recovering=recovering))
        yield Session(loaded, config, LocalHost(), closing)


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Hold the lock of all commands that change something. Raises Refused where another one runs."""
    if os.geteuid() != 0:
        raise Refused("this changes the system and needs root", "run it with sudo")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock.held(Path(LOCK), f"mlflow-onprem {' '.join(sys.argv[1:2])}"))
        except Taken as holder:
            raise Refused(f"another mlflow-onprem command is running ({holder})", "wait until it is done, then run this again") from None
        yield


@contextlib.contextmanager
def _gently(host: LocalHost, progress: Progress, stop: threading.Event) -> Iterator[None]:
    def pressed(_signal: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            host.stop_children()
        else:
            stop.set()
            progress.say("stopping after what is in hand; press Ctrl-C again to break it off")

    before = {each: signal.signal(each, pressed) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
