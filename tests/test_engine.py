"""The engine on a whole fake machine: converging, being killed anywhere, failing, stopping, taking things back."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlflow_onprem.core import engine
from mlflow_onprem.core.engine import Event, Stack
from mlflow_onprem.core.errors import Interrupted, NotConverged, NotVisible, OnPremError, ResourceFailed
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base, Unknown
from mlflow_onprem.settings import credentials as credentials_module
from tests.fake_machine import CREDENTIALS, Machine, with_secrets
from tests.fakes import Crashed, FakeHost

CHANGED: dict[str, Any] = {
    "minio": {"port": 9100, "bind": "0.0.0.0"},
    "postgres": {"allowed_networks": ["10.0.0.0/24"]},
    "mlflow": {"port": 5001, "artifacts": "presigned", "extra_packages": ["mlflow-plugin"]},
}
ROTATED = with_secrets(
    **{name: f"rotated-{name}" for name in ("minio_root_password", "s3_secret_key", "postgres_password", "flask_secret_key", "webhook_key")}
)


def test_converging_twice_changes_nothing_the_second_time(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    wanted = machine.config()

    report = engine.converge(machine.host, machine.stack(wanted))
    assert len(report.changed) + report.unchanged == len(list(machine.stack(wanted)))
    assert machine.on_old_inputs() == []

    acts = machine.host.acts
    assert engine.plan(machine.host, machine.stack(wanted)).changes == ()
    again = engine.converge(machine.host, machine.stack(wanted))
    assert again.changed == ()
    assert again.unchanged == len(list(machine.stack(wanted)))
    assert machine.host.acts == acts


def test_a_plan_of_an_empty_host_names_everything_and_changes_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    before = machine.state()
    found = engine.plan(machine.host, machine.stack(machine.config()))
    assert machine.host.acts == 0
    assert machine.state()["files"] == before["files"]
    assert {each.action for each in found.changes} == {"create", "unknown"}
    assert found.hidden == ()


# killed anywhere -----------------------------------------------------------------------------------------------------


def test_an_installation_killed_after_any_of_its_acts_is_finished_by_the_next_run(tmp_path: Path) -> None:
    straight = Machine(tmp_path / "straight")
    straight.converge(straight.config())
    acts = straight.host.acts
    assert acts > 60

    for number in range(1, acts + 1):
        machine = Machine(tmp_path / str(number))
        machine.host.crash_at = number
        with pytest.raises(Crashed):
            machine.converge(machine.config())
        at = f"killed after act {number} of {acts}: {machine.host.log[-1]}"
        machine.host.revive()
        machine.converge(machine.config())
        assert machine.state() == straight.state(), at
        assert machine.on_old_inputs() == [], at
        assert engine.plan(machine.host, machine.stack(machine.config())).changes == (), at


@pytest.mark.parametrize("step", [0.001, 0.7], ids=["within one second", "over minutes"])
def test_a_change_killed_after_any_of_its_acts_leaves_no_service_on_old_inputs(tmp_path: Path, step: float) -> None:
    def installed(name: str) -> Machine:
        machine = Machine(tmp_path / name, step)
        machine.converge(machine.config(), CREDENTIALS)
        machine.host.revive()
        return machine

    straight = installed("straight")
    straight.converge(straight.config(CHANGED), ROTATED)
    acts = straight.host.acts
    assert acts > 20
    assert straight.on_old_inputs() == []

    for number in range(1, acts + 1):
        machine = installed(str(number))
        machine.host.crash_at = number
        with pytest.raises(Crashed):
            machine.converge(machine.config(CHANGED), ROTATED)
        at = f"killed after act {number} of {acts}: {machine.host.log[-1]}"
        machine.host.revive()
        machine.converge(machine.config(CHANGED))
        assert credentials_module.load_or_generate(machine.host) == ROTATED, at
        assert machine.state() == straight.state(), at
        assert machine.on_old_inputs() == [], at
        assert engine.plan(machine.host, machine.stack(machine.config(CHANGED))).changes == (), at


@pytest.mark.parametrize("number", range(1, 70, 7))
def test_with_the_lists_side_by_side_a_killed_installation_is_finished_too(tmp_path: Path, number: int) -> None:
    machine = Machine(tmp_path)
    machine.host.crash_at = number
    with pytest.raises(Crashed):
        engine.converge(machine.host, machine.stack(machine.config()))
    machine.host.revive()
    engine.converge(machine.host, machine.stack(machine.config()))
    assert machine.on_old_inputs() == []
    assert engine.plan(machine.host, machine.stack(machine.config())).changes == ()


# taking things back --------------------------------------------------------------------------------------------------


def test_retire_keeps_data_and_credentials_and_goes_backwards(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    stack = machine.stack(machine.config())
    kept = {
        "bucket:mlflow",
        "cluster:15/main",
        "role:mlflow_user",
        "database:mlflow",
        "database:mlflow_auth",
        "directory:/opt/minio/data",
        f"file:{credentials_module.PATH}",
    }
    gone = [each.name for each in engine.retire(stack, with_data=False)]
    assert not kept & set(gone)
    notes = {f"file:/var/lib/mlflow-onprem/{name}" for name in ("secret-dates.json", "users-before", "postgres-cluster", "object-store-founded")}
    assert {each.name for each in stack} - set(gone) == kept | notes
    everything = engine.retire(stack, with_data=True)
    assert [each.name for each in everything] == [each.name for each in reversed(list(stack))]
    assert all(each.want is None for each in everything)


# one list, small resources ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BoxState:
    value: str


@dataclass(frozen=True)
class Box(Base):
    """A value in a dict; `stubborn` forgets what it was told, `fails` raises, `hides` may not be seen."""

    box: str
    want: BoxState | None = BoxState("new")
    store: dict[str, str] = field(default_factory=dict)
    stubborn: bool = False
    fails: bool = False
    hides: bool = False
    gate: threading.Event | None = None
    opens: threading.Event | None = None

    @property
    def name(self) -> str:
        return f"box:{self.box}"

    def observe(self, host: Host) -> BoxState | Unknown | None:
        if self.hides:
            raise NotVisible("only root may look")
        value = self.store.get(self.box)
        return Unknown("it is asleep") if value == "asleep" else None if value is None else BoxState(value)

    def apply(self, host: Host, have: Any) -> None:
        if self.opens is not None:
            self.opens.set()
        if self.gate is not None:
            assert self.gate.wait(10)
        if self.fails:
            raise OnPremError("it broke", "fix it", "last words")
        if not self.stubborn and self.want is not None:
            self.store[self.box] = self.want.value


def test_a_failing_list_stops_the_ones_beside_it_after_what_they_have_in_hand() -> None:
    store: dict[str, str] = {}
    failed, busy = threading.Event(), threading.Event()

    class Watch:
        events: list[Event] = []  # noqa: RUF012  # one instance of it in one test

        def __call__(self, event: Event) -> None:
            self.events.append(event)
            if event.kind == "failed":
                failed.set()

    slow = Box("slow", store=store, gate=failed, opens=busy)
    stack = Stack(
        lanes={"a": (Box("bad", store=store, fails=True, gate=busy), Box("after bad", store=store)), "b": (slow, Box("after slow", store=store))},
        last=(Box("last", store=store),),
    )
    watch = Watch()
    with pytest.raises(ResourceFailed) as caught:
        engine.converge(FakeHost(), stack, watch)
    assert store == {"slow": "new"}
    assert (caught.value.resource, caught.value.hint, caught.value.output) == ("box:bad", "fix it", "last words")
    assert str(caught.value) == "box:bad: it broke"
    assert [(each.kind, each.resource) for each in watch.events if each.kind != "start"] == [("failed", "box:bad"), ("settled", "box:slow")]


def test_a_second_failure_is_told_beside_the_first() -> None:
    meet = threading.Barrier(2)

    @dataclass(frozen=True)
    class Meeting(Box):
        def apply(self, host: Host, have: Any) -> None:
            meet.wait(10)
            super().apply(host, have)

    stack = Stack(lanes={"a": (Meeting("one", fails=True),), "b": (Meeting("two", fails=True),)})
    with pytest.raises(ResourceFailed) as caught:
        engine.converge(FakeHost(), stack)
    assert sorted([str(caught.value), *caught.value.also]) == ["box:one: it broke", "box:two: it broke"]


def test_what_is_still_not_as_wanted_after_it_was_applied_is_an_error_with_both_values() -> None:
    with pytest.raises(ResourceFailed, match=r"value: old instead of new") as caught:
        engine.converge(FakeHost(), Stack(first=(Box("b", store={"b": "old"}, stubborn=True),)))
    assert isinstance(caught.value.cause, NotConverged)


def test_a_state_that_cannot_be_told_is_a_change_in_a_plan_and_a_failure_when_its_turn_comes() -> None:
    asleep = Box("b", store={"b": "asleep"})
    [change] = engine.plan(FakeHost(), Stack(first=(asleep,))).changes
    assert (change.action, change.why) == ("unknown", "it is asleep")
    with pytest.raises(ResourceFailed, match="cannot determine its state: it is asleep"):
        engine.converge(FakeHost(), Stack(first=(asleep,)))


def test_what_only_root_may_see_is_no_change() -> None:
    found = engine.plan(FakeHost(is_root=False), Stack(first=(Box("b", hides=True), Box("c", store={"c": "new"}))))
    assert (found.changes, found.unchanged, [each.resource for each in found.hidden]) == ((), 1, ["box:b"])


def test_after_a_failure_the_same_caller_may_converge_again_to_take_it_back() -> None:
    stop, store = threading.Event(), dict[str, str]()
    with pytest.raises(ResourceFailed):
        engine.converge(FakeHost(), Stack(first=(Box("bad", store=store, fails=True),)), stop=stop)
    engine.converge(FakeHost(), Stack(first=(Box("one", store=store),)), stop=stop)
    assert "one" in store


def test_a_stop_ends_after_what_is_in_hand() -> None:
    stop, store = threading.Event(), dict[str, str]()
    stack = Stack(first=(Box("one", store=store, opens=stop), Box("two", store=store)), last=(Box("three", store=store),))
    with pytest.raises(Interrupted):
        engine.converge(FakeHost(), stack, stop=stop)
    assert store == {"one": "new"}
    assert engine.converge(FakeHost(), stack).unchanged == 1
    assert store == {"one": "new", "two": "new", "three": "new"}


def test_a_bug_in_one_list_comes_out_and_stops_the_others() -> None:
    @dataclass(frozen=True)
    class Buggy(Box):
        def apply(self, host: Host, have: Any) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        engine.converge(FakeHost(), Stack(lanes={"a": (Buggy("a"),), "b": (Box("b"),)}, last=(Box("c"),)))


def test_events_carry_the_list_and_what_changed() -> None:
    events: list[Event] = []
    engine.converge(FakeHost(), Stack(first=(Box("one"), Box("two", store={"two": "new"}))), events.append)
    assert [(each.kind, each.lane, each.resource, each.change is not None) for each in events] == [
        ("start", "host", "box:one", False),
        ("settled", "host", "box:one", True),
        ("start", "host", "box:two", False),
        ("settled", "host", "box:two", False),
    ]
