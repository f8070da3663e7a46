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
    DECLINED = 5
    INTERRUPTED = 130  # as shells have it: 128 and the number of SIGINT


#: What each means, as the manual page says it.
EXIT_CODES = {
    ExitCode.OK: "all is well",
    ExitCode.FAILED: "it failed",
    ExitCode.USAGE: "wrong usage or a bad configuration; nothing was touched",
    ExitCode.CHANGES: "plan, upgrade --check: there are changes",
    ExitCode.UNHEALTHY: "something is not healthy",
    ExitCode.DECLINED: "you answered no; nothing was changed",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C; what is half done and the command that goes on are said",
}


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


class Declined(OnPremError):
    """Somebody was asked and said no; `message` is what was therefore not done."""

    exit_code = ExitCode.DECLINED


class CommandFailed(OnPremError):
    """A program ended badly. `command` is what a person would type in a shell."""

    def __init__(self, command: str, code: int | None, output: str, hint: str = "") -> None:
        how = "did not finish in time" if code is None else f"exited with status {code}"
        super().__init__(f"`{command}` {how}", hint, output)
        self.command = command
        self.code = code


class Stalled(CommandFailed):
    """A program that fetches got nothing done for `seconds` and was ended. `peers`: whom it was connected to, as address:port."""

    def __init__(self, command: str, seconds: float, output: str, hint: str = "", peers: Sequence[str] = ()) -> None:
        super().__init__(command, None, output, hint)
        self.message = f"`{command}` got nothing for {in_words(seconds)} and was ended"
        self.args = (self.message,)
        self.seconds = seconds
        self.peers = tuple(peers)


def in_words(seconds: float) -> str:
    """120 -> 2 minutes, 8 -> 8 seconds."""
    count, unit = (seconds / 60, "minute") if seconds >= 60 else (seconds, "second")
    return f"{count:.0f} {unit}{'' if round(count) == 1 else 's'}"


class Interrupted(OnPremError):
    """Somebody pressed Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED


class RolledBack(OnPremError):
    """It failed or was stopped, and the host is as it was before."""

    def __init__(self, cause: OnPremError) -> None:
        super().__init__(f"{cause.message}; this host is as it was before", cause.hint, cause.output)
        self.cause = cause
        self.exit_code = cause.exit_code


class HalfDone(OnPremError):
    """It failed or was stopped half-way; the hint names the command that goes on."""

    def __init__(self, cause: OnPremError, what: str, go_on: str) -> None:
        super().__init__(f"{cause.message}; {what}", f"{cause.hint}; then {go_on}" if cause.hint else go_on, cause.output)
        self.cause = cause
        self.exit_code = cause.exit_code


class NotConverged(OnPremError):
    """A resource was applied, but the host still differs."""


class Unhealthy(OnPremError):
    """The stack is in place and does not serve."""

    exit_code = ExitCode.UNHEALTHY


class ResourceFailed(OnPremError):
    """One resource could not be applied; names it, keeps the cause's output and hint."""

    def __init__(self, resource: str, cause: OnPremError, also: Sequence[str] = ()) -> None:
        hint = cause.hint or "fix the cause above, then run the same command again: it resumes from here"
        super().__init__(f"{resource}: {cause.message}", hint, cause.output)
        self.resource = resource
        self.cause = cause
        self.also = tuple(also)
        self.exit_code = cause.exit_code


class NotVisible(Exception):
    """This user may not look at that; a plan shows it as unknown. Never reaches a person as an error."""
