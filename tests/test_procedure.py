"""Lists of steps, killed, failing and stopped by Ctrl-C before and after every step, while going forward and while rolling back."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from mlflow_onprem.core import procedure
from mlflow_onprem.core.engine import Event
from mlflow_onprem.core.errors import ExitCode, HalfDone, Interrupted, OnPremError, ResourceFailed, RolledBack
from mlflow_onprem.core.procedure import Journal, Procedure, Record, Step
from mlflow_onprem.core.render import error_json
from tests.fakes import Crashed, FakeHost

PATH = "/var/lib/mlflow-onprem/verb/journal.json"
COMMAND = "sudo mlflow-onprem verb"
NAMES = ("one", "two", "three")
FAILURES: tuple[Callable[[], BaseException], ...] = (lambda: OnPremError("no luck", "look"), KeyboardInterrupt, lambda: OSError(28, "No space left"))


@dataclass
class World:
    """What steps change. `at` is the point at which `raising` happens: before or after a step's effect."""

    host: FakeHost = field(default_factory=FakeHost)
    made: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    at: int | None = None
    raising: Callable[[], BaseException] = Crashed

    def point(self, name: str) -> None:
        self.points.append(name)
        if self.at is not None and len(self.points) == self.at:
            raise self.raising()

    def armed(self, at: int | None, raising: Callable[[], BaseException] = Crashed) -> World:
        """A new run in the same world."""
        self.host.revive()
        self.points.clear()
        self.at, self.raising = at, raising
        return self


class Own(Journal):
    """A verb's own."""

    id: str = "x"


def step(name: str, *, undo: bool = True, again: bool = False, final: bool = False) -> Step[World]:
    def do(world: World) -> None:
        world.point(f"before {name}")
        if name not in world.made:
            world.made.append(name)
        world.point(f"after {name}")

    def back(world: World) -> None:
        world.point(f"before undoing {name}")
        if name in world.made:
            # What a later step made stands on what this one made.
            assert world.made[-1] == name
            world.made.remove(name)
        world.point(f"after undoing {name}")

    return Step(name, do, back if undo else None, again=again, final=final)


def verb(*steps: Step[World]) -> Procedure[World]:
    return Procedure("verb", steps or tuple(step(name) for name in NAMES), COMMAND)


def record(world: World) -> Record[Own]:
    found = procedure.read(world.host, PATH, Own, "look")
    return Record(world.host, PATH, found or Own())


def run(world: World, of: Procedure[World] | None = None) -> tuple[tuple[str, float], ...]:
    return procedure.run(of or verb(), world, record(world))


ALL = verb()
FINAL = verb(step("one"), step("two"), step("three", undo=False, final=True))
FORWARD = verb(*(step(name, undo=False) for name in NAMES))
POINTS = range(1, 2 * len(NAMES) + 1)


def test_a_run_does_every_step_once_and_leaves_no_journal() -> None:
    world = World()
    assert [name for name, _ in run(world)] == list(NAMES)
    assert world.made == list(NAMES)
    assert world.host.read(PATH) is None


@pytest.mark.parametrize("at", POINTS)
@pytest.mark.parametrize("of", [ALL, FINAL, FORWARD])
def test_killed_anywhere_the_next_run_goes_on(of: Procedure[World], at: int) -> None:
    world = World().armed(at)
    with pytest.raises(Crashed):
        run(world, of)
    begun = NAMES[: (at + 1) // 2]
    assert json.loads(world.host.read(PATH) or b"") == {"begun": list(begun), "undo": False, "id": "x"}, "written down before it is begun"
    assert world.host.files()[PATH][2:] == (0o600, "root", "root")
    run(world.armed(None), of)
    assert world.made == list(NAMES)
    assert world.host.read(PATH) is None
    assert world.points[0] == f"before {begun[-1]}", "finished steps are not done again"


@pytest.mark.parametrize("at", POINTS)
def test_killed_anywhere_it_can_be_rolled_back_even_if_that_is_killed_too(at: int) -> None:
    for second in range(1, at + 3):
        world = World().armed(at)
        with pytest.raises(Crashed):
            run(world)
        world.armed(second)
        try:
            procedure.roll_back(ALL, world, record(world))
        except Crashed:
            assert record(world).journal.undo
            procedure.roll_back(ALL, world.armed(None), record(world))
        assert world.made == []
        assert world.host.read(PATH) is None


@pytest.mark.parametrize("act", range(1, 6))
@pytest.mark.parametrize("of", [ALL, FINAL, FORWARD])
def test_killed_in_the_writing_of_the_journal_the_next_run_goes_on(of: Procedure[World], act: int) -> None:
    world = World()
    world.host.crash_at = act
    with pytest.raises(Crashed):
        run(world, of)
    run(world.armed(None), of)
    assert world.made == list(NAMES)
    assert world.host.read(PATH) is None


@pytest.mark.parametrize("at", POINTS)
@pytest.mark.parametrize("raising", FAILURES)
def test_a_failure_or_ctrl_c_anywhere_is_rolled_back(raising: Callable[[], BaseException], at: int) -> None:
    world = World().armed(at, raising)
    with pytest.raises(RolledBack) as back:
        run(world)
    assert world.made == []
    assert world.host.read(PATH) is None
    assert "this host is as it was before" in back.value.message
    assert back.value.exit_code == (ExitCode.INTERRUPTED if raising is KeyboardInterrupt else ExitCode.FAILED)


@pytest.mark.parametrize("at", POINTS)
@pytest.mark.parametrize("raising", FAILURES)
def test_without_a_way_back_it_says_what_is_half_done_and_which_command_goes_on(raising: Callable[[], BaseException], at: int) -> None:
    world = World().armed(at, raising)
    with pytest.raises(HalfDone) as half:
        run(world, FORWARD)
    assert f"verb is half done, it came to: {NAMES[(at - 1) // 2]}" in half.value.message
    assert COMMAND in half.value.hint
    assert half.value.exit_code == (ExitCode.INTERRUPTED if raising is KeyboardInterrupt else ExitCode.FAILED)
    run(world.armed(None), FORWARD)
    assert world.made == list(NAMES)


@pytest.mark.parametrize("raising", FAILURES)
def test_from_a_final_step_on_there_is_no_way_back(raising: Callable[[], BaseException]) -> None:
    world = World().armed(5, raising)
    with pytest.raises(HalfDone):
        run(world, FINAL)
    assert world.made == ["one", "two"]
    run(world.armed(None), FINAL)
    assert world.points == ["before three", "after three"]


@pytest.mark.parametrize("raising", FAILURES)
def test_what_interrupts_the_way_back_is_said_with_the_first_reason_and_the_way_back_goes_on(raising: Callable[[], BaseException]) -> None:
    class Twice(World):
        def point(self, name: str) -> None:
            super().point(name)
            if name == "before undoing one" and self.at is not None:
                raise raising()

    world = Twice()
    world.armed(5, lambda: OnPremError("no way there"))
    with pytest.raises(HalfDone) as half:
        run(world)
    assert half.value.message.startswith("no way there; and rolling back failed, too: ")
    assert half.value.hint.endswith(f"go on rolling back with: {COMMAND}")
    assert record(world).journal.undo
    procedure.roll_back(ALL, world.armed(None), record(world))
    assert world.made == []


def test_a_fault_of_ours_is_rolled_back_and_stays_what_it_is() -> None:
    world = World().armed(4, lambda: KeyError("x"))
    with pytest.raises(KeyError):
        run(world)
    assert world.made == []


def test_steps_that_a_reboot_undoes_are_done_again_until_a_final_one_was_begun() -> None:
    of = verb(step("one", again=True), step("two"), step("three"), step("four", final=True))
    world = World().armed(5)
    with pytest.raises(Crashed):
        run(world, of)
    with pytest.raises(Crashed):
        run(world.armed(6), of)
    assert world.points == ["before one", "after one", "before three", "after three", "before four", "after four"]
    run(world.armed(None), of)
    assert world.points == ["before four", "after four"]


def test_a_journal_of_the_version_before_did_not_say_what_was_begun() -> None:
    """All of it is done again, or all of it undone."""
    world = World(made=["one", "two"])
    world.host.put(PATH, b'{"id": "y"}')
    assert record(world).journal == Own(id="y", begun=None)
    with pytest.raises(Crashed):
        run(world.armed(4), FINAL)
    assert record(world).journal.begun is None
    procedure.roll_back(FINAL, world.armed(None), record(world))
    assert world.made == []
    world.host.put(PATH, b'{"id": "y"}')
    with pytest.raises(Crashed):
        run(world.armed(5), FINAL)
    assert record(world).journal.begun == NAMES, "from a final step on it is known"


def test_a_damaged_journal_is_told_without_what_stands_in_it() -> None:
    host = FakeHost()
    host.put(PATH, b'{"id": 5, "password": "hunter2"}')
    with pytest.raises(OnPremError, match=r"journal\.json is damaged") as damaged:
        procedure.read(host, PATH, Own, "look into it")
    assert damaged.value.hint == "look into it"
    assert damaged.value.__suppress_context__


def test_a_verbs_own_field_is_on_disk_before_the_step_goes_on() -> None:
    world = World()
    kept = record(world)
    kept.save(id="z")
    assert record(world).journal.id == "z"


@pytest.mark.parametrize("raising", FAILURES)
def test_a_list_without_a_journal_only_raises(raising: Callable[[], BaseException]) -> None:
    world = World().armed(3, raising)
    with pytest.raises(Interrupted if raising is KeyboardInterrupt else OnPremError) as failed:
        procedure.run(ALL, world)
    if isinstance(failed.value, Interrupted):
        assert failed.value.message == "stopped by Ctrl-C at: two; nothing was changed"
        assert failed.value.hint == f"run it again: {COMMAND}"
    assert world.made == ["one"]


def test_asked_to_stop_it_finishes_the_step_in_hand_first() -> None:
    world, stop = World(), threading.Event()
    of = verb(step("one"), Step("two", lambda _: stop.set()), step("three"))
    with pytest.raises(RolledBack) as back:
        procedure.run(of, world, record(world), stop)
    assert back.value.exit_code == ExitCode.INTERRUPTED
    assert world.points == ["before one", "after one", "before undoing one", "after undoing one"]


def test_whoever_watches_sees_every_step_and_the_way_back() -> None:
    seen: list[Event] = []
    world = World().armed(3, lambda: OnPremError("no luck"))
    with pytest.raises(RolledBack):
        procedure.run(Procedure("verb", ALL.steps, COMMAND, seen.append), world, record(world))
    assert [(each.kind, each.resource) for each in seen] == [
        ("start", "one"), ("settled", "one"), ("start", "two"), ("failed", "two"),
        ("start", "roll back: two"), ("settled", "roll back: two"), ("start", "roll back: one"), ("settled", "roll back: one"),
    ]  # fmt: skip
    assert {each.lane for each in seen} == {"verb"}


def test_scripts_still_see_which_resource_it_was() -> None:
    cause = ResourceFailed("file:/x", OnPremError("no"))
    for error in (RolledBack(cause), HalfDone(RolledBack(cause), "half", "go on")):
        assert error_json(error)["error"]["resource"] == "file:/x"
