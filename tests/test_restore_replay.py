"""A restore interrupted at every act: killed (and rebooted), failing, Ctrl-C. It converges or is rolled back, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlflow_onprem.backup import context, create
from mlflow_onprem.backup.encryption import Keys
from mlflow_onprem.backup.repository import SPOOL
from mlflow_onprem.core import procedure
from mlflow_onprem.core.errors import ExitCode, HalfDone, OnPremError, Refused, RolledBack
from mlflow_onprem.restore import command, state, steps
from mlflow_onprem.settings import credentials
from mlflow_onprem.settings.config import Config
from tests.fake_stack import KEY, World, in_memory
from tests.fakes import Crashed

THERE, HERE = ["there 1", "there 2"], ["here"]
OBJECTS = {"a": b"of the backup", "b": b"the same"}
FAILURES: tuple[Callable[[], BaseException], ...] = (lambda: OnPremError("no luck", "look"), KeyboardInterrupt)
#: What is done when all is over.
ENDING = (f"remove {state.JOURNAL}", f"remove {state.FOLDER}", f"remove {SPOOL}")
Make = Callable[[], tuple[World, str]]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """A host with a stack that a backup of another state of it is restored onto, as often as asked for; in memory where there is a place for that."""
    with in_memory() as folder:
        yield from _make(folder, monkeypatch)


def _make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    first = World(folder / "first", monkeypatch)
    first.install(THERE, OBJECTS)
    made = backed_up(first)

    def fresh() -> tuple[World, str]:
        shutil.rmtree(folder / "next", ignore_errors=True)
        shutil.copytree(folder / "first", folder / "next")
        world = World(folder / "next", monkeypatch)
        world.install(HERE, {"a": b"overwritten", "b": b"the same", "c": b"new"})
        world.restoring = True
        return world.armed(None), made

    yield fresh


@pytest.fixture
def bare(make: Make) -> Make:
    """A host without a stack, and the backup of another one."""

    def fresh() -> tuple[World, str]:
        world, made = make()
        world.host.local(credentials.PATH).unlink()
        world.postgres.databases, world.bucket.objects = {"postgres": {}}, {}
        world.running = world.enabled = False
        return world.armed(None), made

    return fresh


def backed_up(world: World) -> str:
    work = context.enter(world.host, world.config, world.repository(), Keys())
    return create.create(work).manifest.id


def restore(world: World, backup: str, **options: Any) -> command.Restored:
    return command.restore(world.host, world.config, world.repository(), Keys(), backup, **options)


@dataclass(frozen=True)
class Before:
    """What a restore must bring back where it does not succeed."""

    credentials: bytes | None
    objects: dict[str, bytes]
    rows: dict[str, Any]

    @classmethod
    def of(cls, world: World) -> Before:
        return cls(world.host.read(credentials.PATH), dict(world.bucket.objects), json.loads(json.dumps(world.postgres.databases)))


def clean(world: World) -> None:
    assert world.wrong == []
    assert set(world.postgres.databases) == {"postgres", "mlflow", "mlflow_auth"}
    assert not world.host.local(state.FOLDER).exists(), "the journal, or secrets of the backup"
    assert not world.host.local(SPOOL).exists(), "dumps of the backup of what was here"
    assert world.running
    assert world.secret == world.on_disk() == world.postgres.databases["mlflow"][KEY][0]


def converged(world: World) -> None:
    clean(world)
    assert world.postgres.databases["mlflow"]["runs"] == THERE
    assert world.postgres.databases["mlflow_auth"]["users"] == THERE
    assert {key: world.bucket.objects[key] for key in OBJECTS} == OBJECTS


def kept(world: World) -> None:
    """Every row that MLflow ever took is in use or in a backup."""
    held = json.dumps(world.postgres.databases) + world.in_backups()
    assert [each for each in ("here", *world.written) if f'"{each}"' not in held] == []


def as_before(world: World, before: Before) -> None:
    clean(world)
    assert world.host.read(credentials.PATH) == before.credentials
    assert world.bucket.objects == before.objects
    runs = world.postgres.databases["mlflow"]["runs"]
    assert [row for row in runs if row not in world.written] == HERE
    assert set(world.written) <= set(runs), "a row that MLflow took is gone"
    assert world.postgres.databases["mlflow_auth"] == before.rows["mlflow_auth"]


def count(make: Make) -> int:
    """How many points an undisturbed restore has."""
    world, backup = make()
    done = restore(world, backup)
    converged(world)
    assert not done.undone
    return len(world.points)


def test_killed_at_every_act_it_is_finished_by_the_same_command(make: Make) -> None:
    for at in range(1, count(make) + 1):
        world, backup = make()
        with pytest.raises(Crashed):
            restore(world.armed(at), backup)
        done = restore(world.armed(None), backup)
        converged(world)
        kept(world)
        assert not done.undone


def test_killed_at_every_act_it_can_be_undone_by_the_backup_of_what_was_here(make: Make) -> None:
    undone = 0
    for at in range(1, count(make) + 1):
        world, backup = make()
        before = Before.of(world)
        with pytest.raises(Crashed):
            restore(world.armed(at), backup)
        journal = state.read_journal(world.host)
        if journal is None or journal.rescue is None or procedure.committed(steps.onto_stack(), journal):
            continue
        assert restore(world.armed(None), journal.rescue).undone
        as_before(world, before)
        undone += 1
    assert undone > 20


@pytest.mark.parametrize("raising", FAILURES)
def test_failing_or_stopped_at_every_act_it_is_rolled_back_or_says_how_to_go_on(make: Make, raising: Callable[[], BaseException]) -> None:
    last: list[str] = []
    for at in range(1 if raising is KeyboardInterrupt else 2, count(make) + 1, 2):
        world, backup = make()
        before = Before.of(world)
        if not raises(world.armed(at, raising), backup, raising):
            continue  # its own leftovers, after the restore was over
        journal = state.read_journal(world.host)
        if journal is None:
            state.forget(world.host)
            over = "after drop mlflow_auth_before" in world.points[:at]
            converged(world) if over else as_before(world, before)
        else:
            assert procedure.committed(steps.onto_stack(), journal), f"not rolled back at {world.points[at - 1]}"
            last.append(world.points[at - 1])
        restore(world.armed(None), backup)
        converged(world)
        kept(world)
    assert any("drop mlflow" in each for each in last)


def raises(world: World, backup: str, raising: Callable[[], BaseException], **options: Any) -> bool:
    """Run it; whether it failed, and as it should."""
    failed: BaseException | None = None
    try:
        restore(world, backup, **options)
    except (OnPremError, KeyboardInterrupt) as caught:
        failed = caught
    if isinstance(failed, KeyboardInterrupt):
        # Only outside of the lists: files of the last restore before, of this one after.
        assert world.points[-1].endswith(ENDING[1:])
    if isinstance(failed, (RolledBack, HalfDone)):
        assert f"sudo mlflow-onprem restore {backup}" in failed.hint or "this host is as it was before" in failed.message
        assert failed.exit_code == (ExitCode.INTERRUPTED if raising is KeyboardInterrupt else ExitCode.FAILED)
    return failed is not None


@pytest.mark.parametrize("second", ["kill", "fail", "ctrl-c"])
def test_interrupted_while_it_rolls_back_the_same_command_goes_on_rolling_back(make: Make, second: str) -> None:
    """The restored stack is not healthy; the way back is interrupted at every act."""
    world, backup = make()
    world.unhealthy = True
    with pytest.raises(RolledBack, match="made up; this host is as it was before"):
        restore(world, backup)
    first = world.points.index("before ask")
    raising = {"kill": Crashed, "fail": FAILURES[0], "ctrl-c": FAILURES[1]}[second]
    for at in range(first + 2, len(world.points) + 1):
        world, backup = make()
        before, world.unhealthy = Before.of(world), True
        with pytest.raises((Crashed, HalfDone, RolledBack, OnPremError, KeyboardInterrupt)) as failed:
            restore(world.armed(at, raising), backup)
        if isinstance(failed.value, HalfDone):
            assert f"go on rolling back with: sudo mlflow-onprem restore {backup}" in failed.value.hint
            assert "made up; and rolling back failed, too" in failed.value.message
        journal = state.read_journal(world.armed(None).host)
        if journal is None:
            # Over, but for files that the next restore removes.
            state.forget(world.host)
        elif not journal.undo:
            assert not restore(world, backup).undone, "it is not known that it was to be rolled back, and it is healthy now"
            converged(world)
            continue
        else:
            assert restore(world, backup).undone
        as_before(world, before)


def test_a_bare_host_killed_at_every_act_is_finished_by_the_same_command(bare: Make) -> None:
    for at in range(1, count(bare) + 1):
        world, backup = bare()
        with pytest.raises(Crashed):
            restore(world.armed(at), backup)
        restore(world.armed(None), backup)
        converged(world)


@pytest.mark.parametrize("raising", FAILURES)
def test_a_bare_host_failing_or_stopped_says_how_to_go_on(bare: Make, raising: Callable[[], BaseException]) -> None:
    half = 0
    for at in range(1 if raising is KeyboardInterrupt else 2, count(bare) + 1, 2):
        world, backup = bare()
        if not raises(world.armed(at, raising), backup, raising):
            continue
        half += state.read_journal(world.host) is not None
        restore(world.armed(None), backup)
        converged(world)
    assert half > 10


def test_rows_that_are_not_those_of_the_dump_are_never_put_into_use(make: Make) -> None:
    world, backup = make()
    before = Before.of(world)
    world.postgres.loses = True
    with pytest.raises(RolledBack, match="is not what was dumped: table runs has 1 rows, not 2"):
        restore(world, backup)
    as_before(world, before)


def test_what_was_here_is_in_the_backup_that_it_names(make: Make) -> None:
    world, backup = make()
    done = restore(world, backup)
    assert done.rescue is not None
    kept(world)
    assert restore(world, done.rescue).rows > 0
    assert "here" in world.postgres.databases["mlflow"]["runs"]
    assert world.bucket.objects["c"] == b"new"


def test_with_skip_backup_it_says_what_does_not_come_back(make: Make) -> None:
    world, backup = make()
    world.unhealthy = True
    with pytest.raises(RolledBack, match="but for objects that were overwritten"):
        restore(world, backup, with_rescue=False)


def test_an_edit_of_the_configuration_in_the_middle_changes_nothing(make: Make, bare: Make) -> None:
    """It is loaded once, on a bare host after it came with the backup; connections are opened once, and anew where secrets were replaced."""
    world, backup = make()
    world.opened = 0

    def never() -> Any:
        raise AssertionError("the configuration was loaded again")

    restore(world, backup, reload=never)
    assert world.opened == 2
    world, backup = bare()
    world.opened, loaded = 0, []

    def come() -> Config:
        loaded.append(1)
        return world.config

    restore(world, backup, reload=come)
    assert (loaded, world.opened) == ([1], 1)


def test_killed_by_the_version_before_it_goes_on(make: Make) -> None:
    """Its journal did not say which steps were begun."""
    for at in range(1, count(make) + 1, 3):
        world, backup = make()
        with pytest.raises(Crashed):
            restore(world.armed(at), backup)
        journal = state.read_journal(world.armed(None).host)
        world.running = True  # that version left it to the next boot to start it
        if journal is None or procedure.committed(steps.onto_stack(), journal):
            continue
        world.host.write(state.JOURNAL, journal.model_dump_json(exclude={"begun"}).encode(), mode=0o600, owner="root", group="root")
        restore(world.armed(None), backup)
        converged(world)


def test_started_by_somebody_between_two_runs_it_is_stopped_again(make: Make) -> None:
    for at in range(1, count(make) + 1, 3):
        world, backup = make()
        with pytest.raises(Crashed):
            restore(world.armed(at), backup)
        world.armed(None).running = True
        restore(world, backup)
        converged(world)


def test_what_an_earlier_restore_left_is_not_taken_for_the_secrets_that_were_here(make: Make) -> None:
    world, backup = make()
    before, world.unhealthy = Before.of(world), True
    world.host.local(state.FOLDER).mkdir()
    world.host.local(state.BEFORE).write_bytes(credentials.serialize(credentials.generate()).reveal().encode())
    with pytest.raises(RolledBack):
        restore(world, backup)
    as_before(world, before)


def test_what_only_waits_for_its_last_step_is_not_undone(make: Make) -> None:
    world, backup = make()
    restore(world, backup)
    at = world.points.index("after drop mlflow_before") + 1
    world, backup = make()
    with pytest.raises(Crashed):
        restore(world.armed(at), backup)
    journal = state.read_journal(world.armed(None).host)
    assert journal is not None
    assert journal.rescue is not None
    with pytest.raises(Refused, match="only waits for its last step"):
        restore(world, journal.rescue)


def test_into_empty_is_refused_where_something_is_and_asked_only_once(make: Make) -> None:
    world, backup = make()
    before = Before.of(world)
    with pytest.raises(Refused, match="not empty"):
        restore(world, backup, into_empty=True)
    assert state.read_journal(world.host) is None
    as_before(world, before)
