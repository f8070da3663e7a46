"""An upgrade interrupted at every act: killed (and rebooted), failing, Ctrl-C. The new version serves or the old one does, and no run is lost."""

from __future__ import annotations

import copy
import shutil
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_onprem.core.engine import Stack
from mlflow_onprem.core.errors import OnPremError, Unhealthy
from mlflow_onprem.core.finding import Finding
from mlflow_onprem.core.resource import Phase
from mlflow_onprem.resources.schema import Schema, SchemaState
from mlflow_onprem.settings.config import Config
from mlflow_onprem.system import stopped
from mlflow_onprem.upgrade import command, rollback, steps
from mlflow_onprem.upgrade import state as journals
from tests.fake_stack import Postgres, World
from tests.fakes import Crashed

OLD, NEW = "3.16.1", Config().mlflow.version
RUN = "/run/systemd/system"
ENVIRONMENTS = "/opt/mlflow-onprem/environments"
Make = Callable[[], "Upgrade"]


def failing() -> OnPremError:
    return OnPremError("no luck", "look")


class Tables(Schema):
    """Nobody asks them here: what they hold is in the fake databases."""

    def observe(self, _host: Any) -> SchemaState | None:
        return self.want


TABLES = Tables(sql=None, tracking_database="mlflow", auth_database="mlflow_auth", administrator="admin", python="/p", environment=(), want=SchemaState("r", "a", True))  # type: ignore[arg-type]  # fmt: skip  # noqa: E501


@dataclass(frozen=True)
class Lists:
    """The lists of the new version."""

    phases: frozenset[Phase] = frozenset(Phase)

    def only(self, phases: Collection[Phase]) -> Lists:
        return Lists(frozenset(phases))

    def __iter__(self) -> Iterator[Schema]:
        yield TABLES


class Copying(Postgres):
    """It copies databases, too."""

    def _change(self, statement: str, names: Any) -> None:
        if "TEMPLATE {database}" not in statement:
            super()._change(statement, names)
            return
        with self.world.act(f"copy {names['database']}"):
            self.world.quiet("databases are copied")
            self.databases[names["fresh"]] = copy.deepcopy(self.databases[names["database"]])


class Upgrade(World):
    """`running`: clients reach MLflow. `version` is that of the environment in use, `private` MLflow on a port that clients do not know."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root, monkeypatch)
        self.postgres = Copying(self)
        self.private = False
        monkeypatch.setattr(rollback, "assemble", self.assemble)
        monkeypatch.setattr(steps, "client_day", self.day)
        monkeypatch.setattr(stopped, "prove", self.prove)
        self.install(["here"], {})
        for name in ("mlflow", "mlflow_auth"):
            self.postgres.databases[name]["version"] = [OLD]
        self.restoring = True
        self.broken = False
        self.on_day: Callable[[], None] = lambda: None
        for folder in ("/var/lib/mlflow-onprem", RUN):
            self.host.local(folder).mkdir(parents=True)
        self.use(OLD)

    def use(self, version: str) -> None:
        self.version = version
        folder = self.host.local(ENVIRONMENTS)
        (folder / f"{version}-x").mkdir(parents=True, exist_ok=True)
        (folder / "current").unlink(missing_ok=True)
        (folder / "current").symlink_to(f"{version}-x")

    def rebooted(self) -> Upgrade:
        if self.dead:
            shutil.rmtree(self.host.local("/run"))
            self.host.local(RUN).mkdir(parents=True)
            self.running = self.private = False
        self.armed(None)
        return self

    def assemble(self, host: Any, config: Config) -> Any:
        systemd = SimpleNamespace(act=self.systemctl)
        return SimpleNamespace(
            config=config, to=SimpleNamespace(systemd=systemd), sql=self.postgres, probes=lambda: (),
            stack=Lists(), migrating=Lists(), close=lambda: None,
        )  # fmt: skip

    def systemctl(self, verb: str, *more: str) -> None:
        with self.act(f"{verb} {' '.join(more)}"):
            if verb == "disable":
                self.enabled = False
            if verb == "stop" or "--now" in more:
                self.running = self.private = False
            if verb == "start":
                self.private = self.host.stat(f"{steps.PRIVATE}/90-upgrade.conf") is not None
                self.running = not self.private

    def prove(self, *_: Any) -> None:
        if self.running or self.private:
            self.wrong.append("MLflow is said to be stopped and runs")

    def converge(self, _host: Any, stack: Any, *_: Any) -> Any:
        back = isinstance(stack, Stack)
        phases = frozenset({Phase.SERVE}) if back else stack.phases
        if Phase.SCHEMA in phases:
            with self.act("migrate"):
                for name in ("mlflow", "mlflow_auth"):
                    if self.postgres.databases[name]["version"] != [NEW]:
                        self.quiet("tables are migrated")
                        self.postgres.databases[name]["version"] = [NEW]
            with self.act("environment"):
                self.use(NEW)
        elif back:
            with self.act("environment back"):
                self.use(OLD)
        if Phase.SERVE in phases:
            with self.act("start MLflow"):
                self.running, self.enabled = True, True
        return SimpleNamespace(changed=())

    def day(self, *_: Any) -> list[Any]:
        with self.act("try out"):
            assert self.private
            self.on_day()
            if self.broken:
                return [Finding("run", "error", "made up", "", "look")]
        return []

    def healthy(self, *_: Any) -> None:
        with self.act("ask"):
            if not self.running or self.postgres.databases["mlflow"]["version"] != [self.version]:
                raise Unhealthy("MLflow does not serve these tables")

    def upgrade(self, stop: threading.Event | None = None) -> command.Upgraded:
        return command.upgrade(self.host, self.assemble(self.host, self.config), lambda _: None, self.back_up, stop or threading.Event())

    def recover(self) -> str | None:
        return command.recover(self.host, self.assemble(self.host, self.config))

    def back_up(self) -> str:
        with self.act("back up"):
            return "20261126-1"

    def promise(self, *versions: str) -> None:
        """One of these versions serves, on tables of its own; nothing is lost, and nothing is left but what clients may have written to."""
        assert self.wrong == []
        assert self.running
        assert self.enabled
        assert self.version in versions
        for name in ("mlflow", "mlflow_auth"):
            assert self.postgres.databases[name]["version"] == [self.version]
        kept = [rows["runs"] for name, rows in self.postgres.databases.items() if name in ("mlflow", "mlflow_before")]
        assert {"here", *self.written} == {row for rows in kept for row in rows}
        left = set(self.postgres.databases) - {"postgres", "mlflow", "mlflow_auth"}
        assert left in (set(), {"mlflow_before", "mlflow_auth_before"})
        assert self.host.stat(journals.PATH) is None
        assert self.host.stat(steps.PRIVATE_SETTINGS) is None


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A host on the old version, as often as asked for."""

    def fresh() -> Upgrade:
        shutil.rmtree(tmp_path / "host", ignore_errors=True)
        return Upgrade(tmp_path / "host", monkeypatch)

    return fresh


def points(make: Make) -> list[str]:
    """Every act of an upgrade that nothing disturbs."""
    world = make()
    world.upgrade()
    world.promise(NEW)
    return list(world.points)


def test_the_new_version_serves_and_its_steps_are_named(make: Make) -> None:
    world = make()
    done = world.upgrade()
    world.promise(NEW)
    assert (done.version, done.wanted, done.backup) == (OLD, NEW, "20261126-1")
    assert [name for name, _ in done.steps] == [
        "back up", "build beside", "stop MLflow", "copy databases", "change", "try out", "open", "tidy up",
    ]  # fmt: skip
    assert set(world.postgres.databases) == {"postgres", "mlflow", "mlflow_auth"}


def test_killed_at_every_act_the_next_run_finishes_or_rolls_back(make: Make) -> None:
    for at, name in enumerate(points(make), 1):
        world = make()
        world.armed(at)
        with pytest.raises(Crashed):
            world.upgrade()
        began = world.host.stat(journals.PATH) is not None
        said = world.rebooted().recover()
        assert (said is not None) == began, name
        if not began:
            continue
        world.promise(OLD, NEW)
        assert (world.version in (said or "")) is True, name


def test_a_reboot_in_between_does_not_start_mlflow(make: Make) -> None:
    """Clients would write to tables that are about to be put back."""
    for at in range(1, len(points(make)) + 1):
        world = make()
        world.armed(at)
        with pytest.raises(Crashed):
            world.upgrade()
        copied = "mlflow_auth_restored" in world.postgres.databases
        opened = "start MLflow" in " ".join(world.points)
        world.armed(None)
        assert not (copied and not opened and world.enabled)


@pytest.mark.parametrize("raising", [failing, KeyboardInterrupt])
def test_failing_or_stopped_at_every_act_it_is_rolled_back(make: Make, raising: Callable[[], BaseException]) -> None:
    for at, name in enumerate(points(make), 1):
        world = make()
        world.armed(at, raising)
        with pytest.raises((OnPremError, KeyboardInterrupt)):
            world.upgrade()
        world.rebooted().recover()
        if world.running:  # it was not touched yet, or is back
            world.promise(OLD, NEW)
        else:
            pytest.fail(f"MLflow does not run after a failure {name}")


def test_rolling_back_killed_at_every_act_the_next_run_goes_on(make: Make) -> None:
    world = make()
    world.broken = True
    with pytest.raises(OnPremError, match="made up"):
        world.upgrade()
    world.promise(OLD)
    start = world.points.index("before try out") + 1
    for at in range(start + 1, len(world.points) + 1):
        again = make()
        again.broken = True
        again.armed(at)
        with pytest.raises(Crashed):
            again.upgrade()
        again.rebooted().recover()
        again.promise(OLD)


def test_a_server_that_fails_its_trial_never_meets_clients(make: Make) -> None:
    world = make()
    world.broken = True
    with pytest.raises(rollback.RolledBack, match=r"The old stack serves again, no run is lost; MLflow was away \d+ s"):
        world.upgrade()
    world.promise(OLD)
    assert set(world.postgres.databases) == {"postgres", "mlflow", "mlflow_auth"}


def test_somebody_who_asks_to_stop_gets_the_old_version(make: Make) -> None:
    stop = threading.Event()
    world = make()
    world.on_day = stop.set
    with pytest.raises(OnPremError, match="asked to stop"):
        world.upgrade(stop)
    world.promise(OLD)
