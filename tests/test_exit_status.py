"""systemd's exit statuses in plain words, and what is tried before the first change; on real hosts: tests/host/test_kernel.py."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlflow_onprem.core.errors import Refused
from mlflow_onprem.core.host import Result
from mlflow_onprem.settings.config import Config
from mlflow_onprem.stack import kernel, unit_trial
from mlflow_onprem.system import exit_status
from mlflow_onprem.system.exit_status import ELSEWHERE, INSTALL, NESTING, STEPS, explain
from mlflow_onprem.system.package_data import read
from mlflow_onprem.system.systemd import Systemd, parse_show
from tests.fakes import FakeHost

JOURNAL = ["journalctl", "-u", "minio.service", "-n", "30", "--no-pager", "-o", "cat"]
USER = ["systemctl", "show", "--property=User", "--value", "minio.service"]


def test_a_programs_own_status_is_not_ours_to_explain() -> None:
    assert explain(FakeHost(), "minio.service", 1) is None
    assert explain(FakeHost(), "minio.service", 0) is None


@pytest.mark.parametrize("status", STEPS)
def test_every_step_has_words_and_a_next_action(status: int) -> None:
    found = explain(FakeHost(), "other.service", status)
    assert found is not None
    assert found.name == f"{status}/{STEPS[status][0]}"
    assert found.what
    assert found.fix


def test_user_namespaces_that_are_off() -> None:
    """systemd says "No space left on device" to it."""
    host = FakeHost()
    host.put(exit_status.LIMIT, "0\n")
    found = explain(host, "minio.service", 217)
    assert found is not None
    assert "no user namespaces" in found.what
    assert found.fix.startswith(f"{INSTALL} leaves that one line out; or allow them: sudo sysctl user.max_user_namespaces")


@pytest.mark.parametrize(("code", "words"), [(0, "no user namespaces"), (2, "its account is missing")])
def test_the_account_or_the_namespace(code: int, words: str) -> None:
    host = FakeHost()
    host.put(exit_status.LIMIT, "96364\n")
    host.script(USER, out="minio\n")
    host.script(["getent", "passwd", "minio"], code=code)
    found = explain(host, "minio.service", 217)
    assert found is not None
    assert words in found.what


@pytest.mark.parametrize(("container", "fix"), [("lxc", NESTING), ("docker", ELSEWHERE), ("", ELSEWHERE)])
def test_a_container_that_may_not_nest(container: str, fix: str) -> None:
    host = FakeHost()
    host.put("/run/systemd/container", container)
    found = explain(host, "minio.service", 226)
    assert found is not None
    assert found.fix == fix
    assert not container or f"a container ({container})" in found.what


def test_a_disk_that_is_not_mounted_is_no_matter_of_the_kernel() -> None:
    host = FakeHost()
    host.put("/run/systemd/container", "lxc")
    host.script(JOURNAL, out="minio.service: Failed to set up mount namespacing: /run/systemd/unit-root/srv/disk1: No such file or directory\n")
    found = explain(host, "minio.service", 226)
    assert found is not None
    assert found.what == "/srv/disk1 is missing, and the service needs it"


def test_a_program_that_is_gone_and_one_that_may_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(backing=tmp_path)
    found = explain(host, "minio.service", 203)
    assert found is not None
    assert "/opt/mlflow-onprem/object-store/current/minio is missing" in found.what
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    host.script(["findmnt", "-n", "-o", "TARGET", "-T", "/opt/mlflow-onprem/object-store/current/minio"], out="/opt\n")
    found = explain(host, "minio.service", 203)
    assert found is not None
    assert found.what == "/opt is mounted noexec: no program there may run"
    assert "remount,exec /opt" in found.fix


def test_a_unit_that_is_started_over_and_over_says_why_once_systemd_knows_it_again() -> None:
    host = FakeHost()
    host.put(exit_status.LIMIT, "0\n")
    answers = iter(["Result=success\nExecMainStatus=0", "Result=exit-code\nExecMainStatus=217"])
    host.programs["systemctl"] = lambda _: Result(0, f"Id=minio.service\nActiveState=activating\nNRestarts=7\n{next(answers)}\n", "")
    reason = Systemd(host, ("minio.service",)).why_not_started("minio.service")
    assert reason is not None
    assert reason.name == "217/USER"
    running = parse_show("Id=a\nActiveState=active\nResult=success\nExecMainStatus=0\n", ("a",))["a"]
    assert running.exit_status == 0


def assembly(*, running: bool, private_users: bool = True) -> Any:
    """What the trial looks at."""
    systemd = SimpleNamespace(status=lambda _: SimpleNamespace(running=running))
    return SimpleNamespace(
        config=Config(),
        facts=SimpleNamespace(private_users=private_users),
        to=SimpleNamespace(systemd=systemd),
        stack=(),
    )


def test_services_that_run_are_not_tried(tmp_path: Path) -> None:
    host = FakeHost(backing=tmp_path)
    unit_trial.check(host, assembly(running=True))
    assert not [call for call in host.calls if call.argv[0] == "systemd-run"]


def test_the_trial_has_the_units_own_sandboxing(tmp_path: Path) -> None:
    host = FakeHost(backing=tmp_path)
    host.programs["systemd-run"] = lambda _: Result(0, "", "")
    unit_trial.check(host, assembly(running=False))
    store, mlflow = (call.argv for call in host.calls if call.argv[0] == "systemd-run")
    assert {"--property=PrivateUsers=yes", "--property=ProtectSystem=strict", "--property=SystemCallFilter=~@privileged"} <= set(store) & set(mlflow)
    assert "--property=MemoryDenyWriteExecute=yes" in store
    assert not [each for each in (*store, *mlflow) if "Exec=" in each.partition("--property=")[2][:9] or "StateDirectory" in each]
    unit_trial.check(host, assembly(running=False, private_users=False))
    assert host.calls[-1].argv[-2:] == ("--property=PrivateUsers=no", "/bin/true")


def test_what_the_kernel_refuses_is_refused_before_the_first_change(tmp_path: Path) -> None:
    host = FakeHost(backing=tmp_path)
    host.put("/run/systemd/container", "lxc")
    host.programs["systemd-run"] = lambda _: Result(226, "", "")
    with pytest.raises(Refused, match=r"minio.service could not be started on this host: .* \(226/NAMESPACE\)") as caught:
        unit_trial.check(host, assembly(running=False))
    assert caught.value.hint == NESTING


def test_a_mount_without_programs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost(backing=tmp_path)
    host.script(["findmnt", "-n", "-o", "TARGET", "-T", "/opt/mlflow-onprem"], out="/opt\n")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_NOEXEC))
    with pytest.raises(Refused, match="/opt is mounted noexec"):
        unit_trial.check(host, assembly(running=True))


def test_the_drop_in_is_there_only_where_it_is_needed() -> None:
    less, all_of_it = SimpleNamespace(private_users=False), SimpleNamespace(private_users=True)
    file = kernel.drop_in("mlflow.service", less)  # type: ignore[arg-type]  # the one fact that counts
    assert file.want is not None
    assert file.path == "/etc/systemd/system/mlflow.service.d/mlflow-onprem-kernel.conf"
    assert kernel.drop_in("mlflow.service", all_of_it).want is None  # type: ignore[arg-type]
    assert kernel.remarks(all_of_it) == ()  # type: ignore[arg-type]
    assert "PrivateUsers=yes" in read("units/minio.service")
