"""A verb of several steps that may be killed, fail or be stopped by Ctrl-C anywhere, and is then rolled back or goes on.

A verb is a list of `Step`s over a context of its own, and a `Journal` with what it must remember. A step is written down before it is begun, so:
- **killed** (SIGKILL, power): nothing more is done. The next run reads the journal and calls `run`, which goes on from the step in hand, or
  `roll_back`.
- **failed, or Ctrl-C**: what was begun is undone, last step first, and `RolledBack` says so. Where the list has no undo, or a `final` step was
  begun, `HalfDone` says what is half done and which command goes on. Ctrl-C while rolling back is `HalfDone`, too.

So `do` and `undo` are written to be done again, and an `undo` finds out by itself how far its `do` came. Looking before the first change is a list
of its own, run without a journal: then a failure is only raised.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from threading import Event as Flag
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mlflow_onprem.core.engine import Event
from mlflow_onprem.core.errors import HalfDone, Interrupted, OnPremError, RolledBack
from mlflow_onprem.core.host import Host

Watch = Callable[[Event], None]
C = TypeVar("C")


@dataclass(frozen=True)
class Step(Generic[C]):
    """One step. `again`: a later run does it again, although it was finished (what a reboot or a person may have changed meanwhile).

    `final`: once it is begun the list only goes forward.
    """

    name: str
    do: Callable[[C], None]
    undo: Callable[[C], None] | None = None
    again: bool = False
    final: bool = False


class Journal(BaseModel):
    """How far it came; a verb adds fields of its own, with defaults for those that an older version did not write.

    `begun`: names of steps, all but the last one are finished; None where the version that wrote it did not say: any may be begun.
    """

    model_config = ConfigDict(frozen=True)
    begun: tuple[str, ...] | None = ()
    undo: bool = False


J = TypeVar("J", bound=Journal)


@dataclass
class Record(Generic[J]):
    """A journal in its file, which only root may read."""

    host: Host
    path: str
    journal: J

    def save(self, **changes: object) -> None:
        """Write it with these changes, before what they speak of is done. Raises OnPremError where the disk is full or read-only."""
        self.journal = self.journal.model_copy(update=changes)
        folder = str(PurePosixPath(self.path).parent)
        if self.host.stat(folder) is None:
            self.host.mkdir(folder, mode=0o700, owner="root", group="root")
        self.host.write(self.path, (self.journal.model_dump_json() + "\n").encode(), mode=0o600, owner="root", group="root")

    def forget(self) -> None:
        """It is over."""
        self.host.remove(self.path)


def read(host: Host, path: str, kind: type[J], hint: str) -> J | None:
    """The journal of a run that was interrupted, or None. Raises OnPremError with `hint` for a damaged one."""
    content = host.read(path)
    if content is None:
        return None
    try:
        found = kind.model_validate_json(content)
    except ValidationError:  # not chained: it quotes the content, which may be secret
        raise OnPremError(f"{path} is damaged", hint) from None
    return found if "begun" in found.model_fields_set else found.model_copy(update={"begun": None})


@dataclass(frozen=True)
class Procedure(Generic[C]):
    """A verb's list. `command` is what a person types to go on; `stopped` is said after Ctrl-C where there is no journal."""

    verb: str
    steps: tuple[Step[C], ...]
    command: str
    watch: Watch = lambda _: None
    stopped: str = "nothing was changed"


def run(procedure: Procedure[C], context: C, record: Record[J] | None = None, stop: Flag | None = None) -> tuple[tuple[str, float], ...]:
    """Do what is left of the list; returns each step's name and seconds. `stop` set from outside ends it like Ctrl-C, after what is in hand.

    Raises RolledBack and HalfDone with a journal, without one the OnPremError of a step, Interrupted for Ctrl-C.
    """
    took: list[tuple[str, float]] = []
    at = ""
    try:
        for step in procedure.steps if record is None else _left(procedure.steps, record.journal):
            if stop is not None and stop.is_set():
                raise Interrupted("stopped by Ctrl-C")
            at = step.name
            if record is not None:
                _write_down(record, procedure.steps, step)
            took.append((at, _do(procedure, at, step.do, context)))
    except (Exception, KeyboardInterrupt) as failed:  # any other BaseException ends the process: as a kill
        cause = _cause(failed)
        if record is None:
            if isinstance(cause, Interrupted):
                raise Interrupted(f"{cause.message} at: {at}; {procedure.stopped}", cause.hint or f"run it again: {procedure.command}") from failed
            if isinstance(failed, OSError):
                raise cause from failed
            raise
        if not _reversible(procedure.steps, record.journal):
            raise HalfDone(cause, f"{procedure.verb} is half done, it came to: {at}", f"go on with: {procedure.command}") from failed
        record.host.say(f"{cause.message}: rolling back")
        roll_back(procedure, context, record, cause)
        if isinstance(failed, (OnPremError, KeyboardInterrupt, OSError)):
            raise RolledBack(cause) from failed
        raise
    try:
        if record is not None:
            record.forget()
    except (OnPremError, KeyboardInterrupt) as failed:
        raise HalfDone(_cause(failed), f"{procedure.verb} is done but for its journal", f"end it with: {procedure.command}") from failed
    return tuple(took)


def roll_back(procedure: Procedure[C], context: C, record: Record[J], cause: OnPremError | None = None) -> None:
    """Undo what was begun, last step first. Killed, it is done again by the next run. Raises HalfDone; `cause` is why, if it was not asked for."""
    try:
        record.save(undo=True)
        begun = record.journal.begun
        for step in reversed(procedure.steps):
            if step.undo is not None and (begun is None or step.name in begun):
                _do(procedure, f"roll back: {step.name}", step.undo, context)
        record.forget()
    except (OnPremError, KeyboardInterrupt, OSError) as failed:
        worse = _cause(failed)
        first = f"{cause.message}; and rolling back failed, too: " if cause is not None else ""
        worse.message = f"{first}{worse.message}"
        raise HalfDone(worse, f"{procedure.verb} is half undone", f"go on rolling back with: {procedure.command}") from failed


def _left(steps: Sequence[Step[C]], journal: Journal) -> list[Step[C]]:
    if not journal.begun:  # nothing, or nobody knows
        return list(steps)
    names = [step.name for step in steps]
    in_hand = max((names.index(name) for name in journal.begun if name in names), default=0)
    forward = committed(steps, journal)
    return [step for number, step in enumerate(steps) if number >= in_hand or (step.again and not forward)]


def _write_down(record: Record[J], steps: Sequence[Step[C]], step: Step[C]) -> None:
    before = record.journal
    begun = before.begun
    if step.final and begun is None:
        begun = tuple(each.name for each in steps[: steps.index(step)])
    if begun is not None and step.name not in begun:
        try:
            record.save(begun=(*begun, step.name))
        except BaseException:
            record.journal = before  # it is not begun
            raise


def committed(steps: Sequence[Step[C]], journal: Journal) -> bool:
    """Whether a final step was begun."""
    return any(step.final and step.name in (journal.begun or ()) for step in steps)


def _reversible(steps: Sequence[Step[C]], journal: Journal) -> bool:
    return any(step.undo is not None for step in steps) and not committed(steps, journal)


def _cause(failed: BaseException) -> OnPremError:
    if isinstance(failed, OnPremError):
        return failed
    if isinstance(failed, KeyboardInterrupt):
        return Interrupted("stopped by Ctrl-C")
    if isinstance(failed, OSError):
        hint = "free some space (`df -h`), then run the same command again"
        return OnPremError(f"{failed.filename or 'a file'} could not be written: {failed.strerror}", hint)
    return OnPremError(f"{type(failed).__name__} (a fault of this program)", "report it")


def _do(procedure: Procedure[C], name: str, do: Callable[[C], None], context: C) -> float:
    """Seconds it took."""
    procedure.watch(Event("start", procedure.verb, name))
    started = time.monotonic()
    try:
        do(context)
    except BaseException:
        procedure.watch(Event("failed", procedure.verb, name, seconds=time.monotonic() - started))
        raise
    seconds = time.monotonic() - started
    procedure.watch(Event("settled", procedure.verb, name, seconds=seconds))
    return round(seconds, 1)
