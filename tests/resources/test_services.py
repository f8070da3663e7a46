"""When a service is started, restarted, and left alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mlflow_onprem.core.errors import CommandFailed, ResourceFailed
from mlflow_onprem.core.host import Result
from mlflow_onprem.core.resource import Mode, Text, compare
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.files import File, FileState
from mlflow_onprem.resources.services import STAMPS, Service, ServiceState, digest
from mlflow_onprem.system.systemd import Systemd
from tests.fake_machine import CREDENTIALS, Machine
from tests.fake_services import FakeSystemd
from tests.fakes import Clock, FakeHost

UNIT = "minio.service"
PATH = f"/etc/systemd/system/{UNIT}"


class Setting:
    """A host with one unit, started on inputs "one"."""

    def __init__(self) -> None:
        self.host = FakeHost(clock=Clock(2.0), reads_only=lambda argv: argv[:2] == ("systemctl", "show") or argv[0] == "journalctl")
        self.systemd = FakeSystemd(self.host)
        self.host.programs["systemctl"] = self.systemd
        self.host.programs["journalctl"] = lambda _: Result(0, "FATAL: no drive\n", "")
        self.host.put(PATH, "[Service]\n")
        self.host.put("/etc/settings", "a=1\n")
        self.host.mkdir(STAMPS, mode=0o700, owner="root", group="root")
        self.apply("one")

    def service(self, inputs: str) -> Service:
        return Service(UNIT, ServiceState(enabled=True, active=True, inputs=inputs), Systemd(self.host, (UNIT,)), paths=("/etc/settings", PATH))

    def apply(self, inputs: str) -> None:
        service = self.service(inputs)
        service.apply(self.host, service.observe(self.host))
        assert compare(self.service(inputs), self.service(inputs).observe(self.host)) is None

    def fields(self, inputs: str) -> set[str]:
        change = compare(self.service(inputs), self.service(inputs).observe(self.host))
        return set() if change is None else set(change.fields)

    @property
    def starts(self) -> int:
        return self.systemd.unit(UNIT).starts


def test_a_service_that_runs_on_its_inputs_is_left_alone() -> None:
    setting = Setting()
    assert setting.starts == 1
    assert setting.fields("one") == set()


def test_other_inputs_restart_it() -> None:
    setting = Setting()
    assert setting.fields("two") == {"inputs"}
    setting.apply("two")
    assert setting.starts == 2


def test_a_file_written_after_its_start_restarts_it_even_with_the_same_content() -> None:
    setting = Setting()
    setting.host.write("/etc/settings", b"a=1\n", mode=0o644, owner="root", group="root")
    assert setting.fields("one") == {"inputs"}
    setting.apply("one")
    assert setting.starts == 2


def test_a_lost_or_damaged_stamp_restarts_it() -> None:
    for content in (None, "nonsense", "{}"):
        setting = Setting()
        setting.host.remove(f"{STAMPS}/{UNIT}")
        if content is not None:
            setting.host.put(f"{STAMPS}/{UNIT}", content)
        assert setting.fields("one") == {"inputs"}
        setting.apply("one")
        assert setting.starts == 2


def test_a_changed_unit_is_read_again_before_the_restart() -> None:
    setting = Setting()
    setting.host.write(PATH, b"[Service]\nNice=5\n", mode=0o644, owner="root", group="root")
    assert setting.fields("one") == {"inputs"}
    setting.apply("one")
    assert setting.systemd.unit(UNIT).ran_on[PATH] == b"[Service]\nNice=5\n"


def test_stopped_disabled_and_masked_by_hand() -> None:
    setting = Setting()
    setting.systemd.unit(UNIT).active = False
    assert setting.fields("one") == {"active"}
    setting.apply("one")
    setting.systemd.unit(UNIT).enabled = False
    assert setting.fields("one") == {"enabled"}
    starts = setting.starts
    setting.apply("one")
    assert setting.starts == starts, "enabling is no reason for a restart"
    setting.systemd.unit(UNIT).masked = True
    assert "enabled" in setting.fields("one")
    setting.apply("one")
    assert not setting.systemd.unit(UNIT).masked


def test_the_stamp_is_written_after_a_start_that_worked_only() -> None:
    setting = Setting()
    setting.systemd.dies.add(UNIT)
    with pytest.raises(CommandFailed) as caught:
        setting.apply("two")
    assert caught.value.output == "FATAL: no drive"
    assert f"journalctl -u {UNIT}" in caught.value.hint
    assert setting.host.read(f"{STAMPS}/{UNIT}") is None
    setting.systemd.dies.clear()
    assert "inputs" in setting.fields("one"), "the old stamp is gone as well: it runs on something in between"


def test_the_stamp_is_roots_alone() -> None:
    found = Setting().host.stat(f"{STAMPS}/{UNIT}")
    assert found is not None
    assert (found.mode, found.owner) == (0o600, "root")


def test_wanted_absent() -> None:
    setting = Setting()
    gone = dataclasses.replace(setting.service("one"), want=None)
    gone.apply(setting.host, gone.observe(setting.host))
    unit = setting.systemd.unit(UNIT)
    assert (unit.active, unit.enabled, setting.host.read(f"{STAMPS}/{UNIT}")) == (False, False, None)
    assert gone.observe(setting.host) is None
    setting.host.remove(PATH)
    assert gone.observe(setting.host) is None


def test_the_digest_is_of_content_attributes_and_versions() -> None:
    file = File("/etc/x", FileState(Text("a"), Mode(0o644), "root", "root"))
    assert file.want is not None
    variants = [
        digest([file], ["1"]),
        digest([file], ["2"]),
        digest([file, file], ["1"]),
        digest([File("/etc/y", file.want)], ["1"]),
        *(
            digest([File("/etc/x", dataclasses.replace(file.want, **change))], ["1"])
            for change in ({"content": Text("b")}, {"content": Secret("c")}, {"mode": Mode(0o600)}, {"owner": "minio"}, {"group": "minio"})
        ),
    ]
    assert len({each[:] for each in variants}) == len(variants)
    assert digest([file], ["1"]) == variants[0]


def test_a_service_that_dies_at_its_start_is_named_with_its_journal_and_finished_by_the_next_run(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.systemd.dies.add("mlflow.service")
    machine.host.programs["journalctl"] = lambda _: Result(0, "ImportError: no module\n", "")
    with pytest.raises(ResourceFailed) as caught:
        machine.converge(machine.config(), CREDENTIALS)
    assert (caught.value.resource, caught.value.output) == ("service:mlflow.service", "ImportError: no module")
    machine.systemd.dies.clear()
    assert "service:mlflow.service" in machine.changed(machine.config())
    assert machine.on_old_inputs() == []
