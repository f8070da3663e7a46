"""`rotate-credentials` as a whole, with its proofs, on the fake machine: killed, failing, finished by `install`."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_onprem.cli import progress, session, stack
from mlflow_onprem.client import env
from mlflow_onprem.clients.store_errors import StoreRefused
from mlflow_onprem.core import engine
from mlflow_onprem.core.errors import Interrupted, OnPremError
from mlflow_onprem.install import render
from mlflow_onprem.resources.database import scram_matches
from mlflow_onprem.rotation import command, proof
from mlflow_onprem.settings import config_file
from mlflow_onprem.settings import credentials as credentials_module
from mlflow_onprem.settings.credentials import GROUPS, Credentials, Stage
from mlflow_onprem.stack import adoption, assembly, health, kernel, preflight
from mlflow_onprem.system import local_host
from tests.fake_machine import CREDENTIALS, Machine
from tests.fake_services import FakeStore
from tests.fakes import Crashed
from tests.test_rotate import Accounts, in_use_is_accepted, installed, on_disk, values

EVERYTHING = tuple(GROUPS)
SECRETS = ("s3-access-key", "postgres-password", "mlflow-admin-password", "minio-root-password")
Make = Callable[[], "Rotation"]


class Rotation:
    """A machine with a stack, and the verb on it. `failing` are proofs that fail; `tried` are what was done to prove."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine: Machine
        self.accounts: Accounts
        self.machine, self.accounts = installed(place, monkeypatch)
        self.failing = False
        self.proven = self.failed_at = 0
        self.stop = threading.Event()
        self.stopping: Stage | None = None  # Ctrl-C at the beginning of this stage
        monkeypatch.setattr(command, "assemble", self.assemble)
        monkeypatch.setattr(health, "wait", lambda *_: ())
        monkeypatch.setattr(proof, "in_use", self.in_use)
        monkeypatch.setattr(proof, "logs_in", self.logs_in)
        monkeypatch.setattr(proof, "MlflowApi", self.accounts.api)
        monkeypatch.setattr(proof, "MinioStore", lambda _endpoint, name, password, _region: Root(self.store(name, password)))

    def store(self, name: str, password: Any) -> FakeStore:
        return FakeStore(self.machine.host, self.machine.data, name, password, self.machine.systemd)

    def assemble(self, _host: Any, config: Any, found: Credentials) -> Any:
        if found.rotation is not None and found.rotation.stage is self.stopping:
            self.stop.set()
        lists = self.machine.stack(config, found, side_by_side=False)
        to = SimpleNamespace(systemd=None, store=self.store(found.minio_root_user, found.minio_root_password))
        return SimpleNamespace(stack=lists, to=to, credentials=found, config=config, probes=lambda: (), close=lambda: None)

    def in_use(self, _assembly: Any) -> None:
        in_use_is_accepted(self.machine)
        self.proven += 1
        if self.failing:
            self.failing, self.failed_at = False, self.machine.host.acts
            raise OnPremError("no luck", "look")

    def logs_in(self, _host: Any, _assembly: Any, password: Any) -> bool:
        return bool(scram_matches(self.machine.sql.roles["mlflow_user"][3], password.reveal()))

    def rotate(self, *scope: str) -> command.Rotated:
        self.stop = threading.Event()  # a run is a process of its own; the engine sets it, too
        rotator = command.Rotator(self.machine.host, self.machine.config(), lambda _: None, self.stop)  # type: ignore[arg-type]
        return rotator.rotate(scope or EVERYTHING)

    def install(self) -> bool:
        """As much of it as there is about a rotation: the host is converged, then the rotation is finished."""
        self.machine.converge(self.machine.config())
        return command.finish_interrupted(self.machine.host, self.machine.config(), lambda _: None, threading.Event())  # type: ignore[arg-type]

    def promise(self, found: Credentials) -> None:
        """One generation of secrets is in use, everywhere, and no other is accepted."""
        assert found.rotation is None
        assert self.machine.on_old_inputs() == []
        assert set(self.machine.data.keys) == {found.s3_access_key}
        assert self.accounts.password == found.mlflow_admin_password
        assert scram_matches(self.machine.sql.roles["mlflow_user"][3], found.postgres_password.reveal())
        assert engine.plan(self.machine.host, self.machine.stack(self.machine.config())).changes == ()


class Root:
    """The store, that refuses who is not its root."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store

    def has_bucket(self, bucket: str) -> bool:
        try:
            return self.store.has_bucket(bucket)
        except (AssertionError, OnPremError) as refused:
            raise StoreRefused("refused", "") from refused


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    made = [0]

    def fresh() -> Rotation:
        made[0] += 1
        return Rotation(tmp_path / str(made[0]), monkeypatch)

    return fresh


def test_every_old_secret_is_tried_and_the_new_ones_are_proven(make: Make) -> None:
    world = make()
    done = world.rotate()
    assert set(done.refused) == set(SECRETS)
    assert world.proven == 1
    world.promise(on_disk(world.machine))
    assert not set(values(on_disk(world.machine)).values()) & set(values(CREDENTIALS).values())


@pytest.mark.parametrize("secret", ["S3 access key", "PostgreSQL role", "MLflow's administrator", "root password"])
def test_an_old_secret_that_is_still_accepted_is_an_error(make: Make, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    world = make()
    old = values(CREDENTIALS)
    if secret == "S3 access key":  # a name
        monkeypatch.setattr(FakeStore, "key_works", lambda *_: True)
    elif secret == "PostgreSQL role":
        monkeypatch.setattr(proof, "logs_in", lambda *_: True)
    elif secret == "MLflow's administrator":
        monkeypatch.setattr(proof, "_administers", lambda *_: True)
    else:
        monkeypatch.setattr(proof, "MinioStore", lambda *_: SimpleNamespace(has_bucket=lambda _: True))
    with pytest.raises(OnPremError, match=f"{secret}.* is still accepted") as failed:
        world.rotate()
    assert "rotate-credentials" in failed.value.hint
    assert [value for value in old.values() if value in f"{failed.value.message} {failed.value.hint}"] == []


def test_killed_at_every_act_install_finishes_it(make: Make) -> None:
    at, crashed, finished = 0, True, 0
    while crashed:
        at, crashed = at + 1, False
        world = make()
        world.machine.host.crash_at = world.machine.host.acts + at
        try:
            world.rotate()
        except Crashed:
            crashed = True
        world.machine.host.revive()
        under_way = on_disk(world.machine).rotation is not None
        assert world.install() == under_way
        finished += under_way
        world.promise(on_disk(world.machine))
    assert finished > 20


def test_failing_while_the_old_secrets_work_everything_is_as_it_was(make: Make) -> None:
    world = make()
    world.failing = True
    with pytest.raises(command.TakenBack, match="nothing was rotated: no luck"):
        world.rotate()
    found = on_disk(world.machine)
    assert values(found) == values(CREDENTIALS)
    world.promise(found)


def test_going_back_killed_at_every_act_ends_with_one_generation(make: Make) -> None:
    whole = make()
    before, whole.failing = whole.machine.host.acts, True
    with pytest.raises(command.TakenBack):
        whole.rotate()
    acts = range(whole.failed_at - before + 1, whole.machine.host.acts - before + 1)
    assert len(acts) > 10
    for at in acts:
        world = make()
        world.failing = True
        world.machine.host.crash_at = world.machine.host.acts + at
        with pytest.raises(Crashed):
            world.rotate()
        world.machine.host.revive()
        world.install()
        world.promise(on_disk(world.machine))


def test_install_finishes_a_rotation_before_it_says_that_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def tell(name: str, answer: Any = None) -> Callable[..., Any]:
        return lambda *_, **__: told.append(name) or answer  # type: ignore[func-returns-value]

    shown = SimpleNamespace(say=None, transfer=None, event=None)
    made = SimpleNamespace(stack=(), to=SimpleNamespace(systemd=None), probes=lambda: (), close=lambda: None, facts=None, adoption=None)
    report = SimpleNamespace(changed=(), unchanged=0, seconds=0.0)
    for owner, name, double in (
        (config_file, "load", tell("load", SimpleNamespace(config=None))),
        (local_host, "LocalHost", SimpleNamespace),
        (progress, "make", lambda **_: nullcontext(shown)),
        (session, "exclusive", nullcontext),
        (session, "_gently", lambda *_: nullcontext()),
        (stack, "emit", tell("emit")),
        (importlib.import_module("mlflow_onprem.cli.upgrade"), "recover", tell("recover upgrade")),
        (assembly, "assemble", tell("assemble", nullcontext(made))),
        (preflight, "check", tell("preflight")),
        (engine, "converge", tell("converge", report)),
        (command, "finish_interrupted", tell("finish rotation", True)),
        (health, "wait", tell("health", ())),
        (kernel, "remarks", lambda *_: ()),
        (render, "status_text", lambda *_: ""),
        (env, "next_steps", lambda *_: ()),
        (render, "report_json", lambda *_: {}),
        (adoption, "told", lambda *_: None),
    ):
        monkeypatch.setattr(owner, name, double)
    assert stack.install() == 0
    assert told == ["load", "recover upgrade", "assemble", "preflight", "converge", "finish rotation", "health", "emit"]


def test_the_verb_itself_finishes_what_was_begun_and_does_not_rotate_it_again(make: Make) -> None:
    world = make()
    world.machine.host.crash_at = world.machine.host.acts + 5
    with pytest.raises(Crashed):
        world.rotate()
    world.machine.host.revive()
    under_way = on_disk(world.machine).rotation
    assert under_way is not None
    done = world.rotate()
    assert done.finished
    assert len(done.rotated) == len(set(done.rotated))
    assert values(on_disk(world.machine)) == values(under_way.other), "the generation that was begun, and no third one"
    world.promise(on_disk(world.machine))


@pytest.mark.parametrize("stage", [Stage.PENDING, Stage.CURRENT])
def test_stopped_by_ctrl_c_it_waits_for_the_run_that_goes_on(make: Make, stage: Stage) -> None:
    world = make()
    world.stopping = stage
    with pytest.raises(Interrupted):
        world.rotate()
    world.stopping = None
    found = on_disk(world.machine).rotation
    assert found is None or not found.back
    world.install()
    world.promise(on_disk(world.machine))
    if found is not None:
        assert values(on_disk(world.machine)) == values(found.other)


def test_install_has_nothing_to_finish_where_no_rotation_was_begun(make: Make) -> None:
    world = make()
    assert world.install() is False
    assert credentials_module.load_or_generate(world.machine.host) == on_disk(world.machine)
