"""uvicorn's supervisor of worker processes, speaking to systemd.

It never imports MLflow: it stays small, and a SIGHUP to it (the unit's main process) replaces the
workers one by one, each new one serving before the old one goes.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
from socket import socket

from uvicorn import _subprocess
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.supervisors.multiprocess import Multiprocess

from . import jobs, orphans
from .notify import notify
from .settings import Settings

logger = logging.getLogger("mlflow_onprem.supervisor")

_APP = "mlflow_onprem_server.app:create"
_APP_AGAIN = "mlflow_onprem_server.app:create_again"
_PRELOAD = "mlflow_onprem_server.preload"
_FIRST_PASSED_FD = 3
# Longer than a training loop is silent: each close is a chance to cross the client's next request.
_KEEP_ALIVE_SECONDS = 75
_STOPPING = (signal.SIGTERM, signal.SIGINT)


def uvicorn_config(settings: Settings, log_config: dict[str, object]) -> Config:
    """Return uvicorn's configuration; uvloop also switches Nagle's algorithm off, which plain asyncio leaves on."""
    return Config(
        _APP,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http="mlflow_onprem_server.drain:DrainingProtocol",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        ws="none",
        lifespan="on",
        log_config=log_config,
        access_log=settings.access_log,
        server_header=False,
        timeout_worker_healthcheck=settings.healthcheck_seconds,
        timeout_graceful_shutdown=settings.graceful_seconds,
    )


class _StopEvent(threading.Event):
    """Set as soon as a stop signal has arrived, also while workers are being replaced."""

    def __init__(self, signals: list[int]) -> None:
        super().__init__()
        self._signals = signals

    def is_set(self) -> bool:
        return super().is_set() or any(number in self._signals for number in _STOPPING)


class Supervisor(Multiprocess):  # type: ignore[misc]
    """Keep the workers alive and say on systemd's status line which generation of them serves."""

    def __init__(self, config: Config, sockets: list[socket], with_jobs: bool = False) -> None:
        super().__init__(config, sockets)
        self.with_jobs = with_jobs
        self.job_runner: subprocess.Popen[bytes] | None = None
        self.should_exit = _StopEvent(self.signal_queue)
        self.generation = 1
        self.failed_reloads = 0
        self.ready = False

    def keep_subprocess_alive(self) -> None:
        """Replace dead workers, and report ready once the first worker serves."""
        before = self._summary()
        super().keep_subprocess_alive()
        if self.with_jobs and self.ready and (self.job_runner is None or self.job_runner.poll() is not None):
            self.job_runner = jobs.start()
        if self.ready and self._summary() != before:
            self._report()
        if not self.ready and any(process.is_ready(timeout=1) for process in self.processes):
            self.ready = True
            # From now on a worker that cannot start is tried again instead of ending the service.
            self.config.app = _APP_AGAIN
            self._report("READY=1")
            logger.info("Ready: %s", self._summary())

    def restart_all(self) -> None:
        """Replace every worker and say whether all of them were replaced."""
        before = [process.pid for process in self.processes]
        self._report("RELOADING=1", f"MONOTONIC_USEC={_monotonic_microseconds()}")
        super().restart_all()
        if self.job_runner is not None:
            self.job_runner.terminate()  # started again, with the new secrets, by keep_subprocess_alive
        kept = [process.pid for process in self.processes if process.pid in before]
        if kept:
            self.failed_reloads += 1
            logger.error("Reload failed: workers %s were kept: %s", kept, self._summary())
        else:
            self.generation += 1
            logger.info("Reload complete: workers %s are gone: %s", before, self._summary())
        self._report("READY=1")

    def terminate_all(self) -> None:
        """Tell systemd before the workers are told."""
        notify("STOPPING=1", "STATUS=stopping")
        if self.job_runner is not None:
            self.job_runner.terminate()
        super().terminate_all()

    @property
    def exit_code(self) -> int:
        """1 when a worker could not start and that ended the service, else 0."""
        return int(any(process.exitcode == STARTUP_FAILURE for process in self.processes))

    def _report(self, *lines: str) -> None:
        notify(*lines, f"STATUS={self._summary()}")

    def _summary(self) -> str:
        pids = ",".join(str(process.pid) for process in self.processes)
        return f"generation={self.generation} failed_reloads={self.failed_reloads} workers={pids}"


def serve(settings: Settings, log_config: dict[str, object]) -> int:
    """Run the service; return the exit code of the process."""
    config = uvicorn_config(settings, log_config)
    _fork_workers()
    queue = jobs.share_queue() if settings.jobs else None
    supervisor = Supervisor(config, [listening_socket(config)], with_jobs=settings.jobs)
    supervisor.run()
    if queue:
        shutil.rmtree(queue, ignore_errors=True)
    return supervisor.exit_code


def listening_socket(config: Config) -> socket:
    """Return the socket that systemd holds for us across restarts, or one of our own."""
    if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS") == "1":
        return socket(fileno=_FIRST_PASSED_FD)
    own: socket = config.bind_socket()
    return own


def _fork_workers() -> None:
    """Have uvicorn fork its workers from a clean process with MLflow imported, not start each from nothing."""
    orphans.name_supervisor()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_PRELOAD])
    # uvicorn has no setting for it; the workers' memory (a quarter) and start time (a fifth) are worth it.
    _subprocess.spawn = context


def _monotonic_microseconds() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
