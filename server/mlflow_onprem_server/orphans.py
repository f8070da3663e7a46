"""No process of the service outlives the one above it: it would hold the port and answer clients while everybody takes the service for stopped.

The kernel kills a process with its parent where it asked for that. The supervisor's end must end the process that workers are forked from,
which would otherwise live as long as any worker does (each holds the pipe that keeps it), and its end must end the workers.
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_SUPERVISOR = "ONPREM_SUPERVISOR_PID"
_forking: list[int] = []


def name_supervisor() -> None:
    """Tell those who are started from here whose end is theirs."""
    os.environ[_SUPERVISOR] = str(os.getpid())


def tie_to_supervisor() -> None:
    """End with the supervisor; at once, where it has ended already. Without one (a test, a person) nothing is done."""
    if _SUPERVISOR in os.environ:
        tie(int(os.environ[_SUPERVISOR]))


def tie(parent: int) -> None:
    """End with that process, which has started this one."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # It may have ended before the kernel was asked.
    if os.getppid() != parent:
        os._exit(1)


def tie_children() -> None:
    """Every process forked from this one ends with it, from its first moment on."""
    os.register_at_fork(before=lambda: _forking.append(os.getpid()), after_in_parent=_forking.clear, after_in_child=_tie_child)


def _tie_child() -> None:
    parent = _forking[-1]
    _forking.clear()
    tie(parent)
