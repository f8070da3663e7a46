"""Standard input, output and error as a caller leaves them: closed, a pipe nobody reads any more, a full disk, a folder."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Iterator

from mlflow_onprem.core.errors import ConfigError, OnPremError

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_missing() -> None:
    """What the caller closed (`<&-`, `>&-`) leads to /dev/null: otherwise the next file that is opened would be standard output."""
    for number, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)
            if found != number:
                os.dup2(found, number)
                os.close(found)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def read_line() -> str:
    """One line of standard input, empty at its end. Raises ConfigError where it cannot be read as text."""
    try:
        line = sys.stdin.readline()
        line.encode()  # in the C locale Python lets any byte in, and none of those out
        return line
    except UnicodeError:
        raise ConfigError("what came on standard input is no text in UTF-8", "hand it over as one line of text") from None
    except (OSError, ValueError) as failed:
        reason = getattr(failed, "strerror", None) or str(failed)
        raise ConfigError(f"standard input cannot be read ({reason})", "hand it over as one line: mlflow-onprem ... < FILE") from None


def nobody_reads() -> bool:
    """Whether the reader of standard output or error is gone (`| head`), so that a BrokenPipeError is theirs and no error of ours."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Around a result on its way to standard output. Raises OnPremError where it could not be written, BrokenPipeError where nobody reads it."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as failed:
        silence()
        raise OnPremError(
            f"the result could not be written to standard output: {failed.strerror}", "is there space left where it goes? (df -h)"
        ) from None


def silence() -> None:
    """Nothing more is written: Python would complain at its end of what it could not."""
    with contextlib.suppress(OSError):
        sink = os.open(os.devnull, os.O_WRONLY)
        for number in (1, 2):
            if number == 1 or nobody_reads():
                os.dup2(sink, number)
        os.close(sink)
