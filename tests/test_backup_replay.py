"""`backup create` interrupted at every act while clients write: what is unfinished is never listed, and the next one is whole."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlflow_onprem.backup import context, create, lock, manifest, objects, transfer
from mlflow_onprem.backup.create import Created
from mlflow_onprem.backup.encryption import Keys
from mlflow_onprem.cli import backup as cli
from mlflow_onprem.cli import session
from mlflow_onprem.core.errors import ExitCode, Interrupted, OnPremError
from mlflow_onprem.restore import command
from mlflow_onprem.settings import credentials
from tests.fake_stack import BACKUPS, World, in_memory
from tests.fakes import Crashed

FAILURES: tuple[Callable[[], BaseException], ...] = (lambda: OnPremError("no luck", "look"), KeyboardInterrupt, lambda: OSError(28, "No space left"))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with in_memory() as folder:
        found = World(folder, monkeypatch)
        found.install(["here"], {"a": b"1", "b": b"2"})
        found.artifacts = True
        yield found.armed(None)


def made(world: World) -> Created:
    return create.create(context.enter(world.host, world.config, world.repository(), Keys()))


def whole(world: World, found: Created) -> None:
    """Every row of the dump has its object in the index; nothing else is in the repository."""
    work = context.enter(world.host, world.config, world.repository(), Keys())
    index = transfer.fetch(world.repository(), found.manifest, transfer.INDEX, work.spool / "index")
    keys = {each.key for each in objects.read_index(index)}
    dump = json.loads(transfer.fetch(world.repository(), found.manifest, "mlflow.dump", work.spool / "dump").read_text())
    assert dump["runs"][0] == "here"
    assert {"a", "b", *(f"run/{row}" for row in dump["runs"][1:])} <= keys
    assert manifest.every(world.repository()).unfinished == ()
    assert world.running, "clients go on"


def listed(world: World) -> list[str]:
    return [each.id for each in manifest.every(world.repository()).whole]


def points(world: World, every: int = 1) -> Iterator[int]:
    world.armed(None)
    found = made(world)
    count = len(world.points)
    whole(world, found)
    for at in range(1, count + 1, every):
        shutil.rmtree(world.host.local(BACKUPS), ignore_errors=True)
        world.install(["here"], {"a": b"1", "b": b"2"})
        yield at


def test_killed_at_every_act_the_next_one_is_whole(world: World) -> None:
    for at in points(world):
        before = listed(world)
        with pytest.raises(Crashed):
            made(world.armed(at))
        world.armed(None)
        assert len(listed(world)) - len(before) in (0, 1)
        for each in listed(world):
            assert manifest.read(world.repository(), each).id == each
        whole(world, made(world))


@pytest.mark.parametrize("raising", FAILURES)
def test_failing_or_stopped_at_every_act_it_says_so_and_the_next_one_is_whole(world: World, raising: Callable[[], BaseException]) -> None:
    said = set()
    # The first two points are of `enter`.
    for at in points(world, 3):
        work = context.enter(world.host, world.config, world.repository(), Keys())
        world.armed(at - 2, raising)
        if at <= 2:
            continue
        with pytest.raises(OnPremError) as failed:
            create.create(work)
        said.add((type(failed.value), failed.value.exit_code, create.STOPPED in failed.value.message))
        world.armed(None)
        whole(world, made(world))
    assert said == {(Interrupted, ExitCode.INTERRUPTED, True) if raising is KeyboardInterrupt else (OnPremError, ExitCode.FAILED, False)}


def test_what_is_deleted_under_the_copying_is_dumped_again(world: World) -> None:
    world.vanishing = 1
    found = made(world)
    assert found.retries == 1
    whole(world, found)
    assert any("dumping the databases again" in each for each in world.said)


def test_what_deletes_all_the_time_is_named(world: World) -> None:
    world.vanishing = 1000
    with pytest.raises(OnPremError, match="5 times in a row"):
        made(world)
    assert listed(world) == []


def test_credentials_rotated_under_a_backup_end_it(world: World) -> None:
    made(world)
    at = world.points.index("after pg_dump mlflow_auth") + 1

    def rotated() -> None:
        world.host.local(credentials.PATH).write_bytes(credentials.serialize(credentials.generate()).reveal().encode())

    world.armed(at, rotated)
    with pytest.raises(OnPremError, match="credentials were rotated while the backup was made"):
        made(world)


# the locks ---------------------------------------------------------------------------------------------------------------


def taken(path: Path) -> bool:
    """Whether somebody holds it."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.mark.parametrize(("verb", "locks"), [("restore", ("all", "data")), ("create", ("data",))])
def test_the_locks_are_held_while_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, locks: tuple[str, ...]) -> None:
    """The one of all commands that change the host, and the one of stored data."""
    found: list[str] = []

    class Seen(Exception):  # that is enough
        pass

    def look(*_: Any, **__: Any) -> Any:
        found.extend(each for each in ("all", "data") if (tmp_path / each).exists() and taken(tmp_path / each))
        raise Seen

    monkeypatch.setattr(session, "LOCK", str(tmp_path / "all"))
    monkeypatch.setattr(lock, "LOCK", tmp_path / "data")
    monkeypatch.setattr(lock, "UPGRADE", tmp_path / "none")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(command, "restore", look)
    monkeypatch.setattr(create, "create", look)
    monkeypatch.setattr(context, "must_be_installed", lambda *_: None)
    monkeypatch.setattr(session.Session, "assemble", lambda *_: None)
    monkeypatch.setattr(context, "enter", lambda *_: None)
    config = tmp_path / "config.toml"
    config.write_text("")
    with pytest.raises((Seen, AttributeError)):
        cli.restore("x", source=str(tmp_path), config=str(config)) if verb == "restore" else cli.create(to=str(tmp_path), config=str(config))
    assert tuple(found) == locks
