"""What a person can be told. Everything else that is raised is a bug and may trace back."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes scripts may rely on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CHANGES = 3
    UNHEALTHY = 4


class OnPremError(Exception):
    """A failure with a next action.

    `message` says what failed and what that means, `hint` what to do next, `output` the last lines of whatever was running.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, hint: str = "", output: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.output = output


class ConfigError(OnPremError):
    """The configuration or the command line is wrong; nothing was touched."""

    exit_code = ExitCode.USAGE


class Refused(OnPremError):
    """Preflight found that the command would fail; nothing was touched."""


class CommandFailed(OnPremError):
    """A program ended badly. `command` is what a person would type in a shell."""

    def __init__(self, command: str, code: int | None, output: str, hint: str = "") -> None:
        how = "did not finish in time" if code is None else f"exited with status {code}"
        super().__init__(f"`{command}` {how}", hint, output)
        self.command = command
        self.code = code


class Interrupted(OnPremError):
    """Somebody pressed Ctrl-C; what was in hand was finished."""


class NotConverged(OnPremError):
    """A resource was applied and is still not as wanted."""


class Unhealthy(OnPremError):
    """The stack is in place and does not serve."""

    exit_code = ExitCode.UNHEALTHY


class ResourceFailed(OnPremError):
    """One resource could not be applied; names it, keeps the cause's output and hint."""

    def __init__(self, resource: str, cause: OnPremError, also: Sequence[str] = ()) -> None:
        hint = cause.hint or "mend what it says, then run the same command again: it goes on from here"
        super().__init__(f"{resource}: {cause.message}", hint, cause.output)
        self.resource = resource
        self.cause = cause
        self.also = tuple(also)
        self.exit_code = cause.exit_code


class NotVisible(Exception):
    """This user may not look at that; a plan shows it as unknown. Never reaches a person as an error."""
