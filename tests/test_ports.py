"""Who holds a port, and what outlived a service: ended where it is ours, named where it is not. No process of the server outlives its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Result
from mlflow_onprem.stack import health
from mlflow_onprem.system import stopped
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.system.ports import Held, foreign, holders, is_leftover
from mlflow_onprem.system.systemd import Systemd
from tests.fakes import FakeHost

PYTHON = "/opt/mlflow-onprem/environments/current/bin/python -c from multiprocessing.forkserver"
#: Binds a port of the kernel's choice, says which, and waits.
LISTENER = "import socket, sys, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); time.sleep(60)"
ORPHANS = Path(stopped.__file__).parents[2] / "server" / "mlflow_onprem_server" / "orphans.py"
#: A parent, what it starts and what that forks, as the supervisor, the fork server and a worker are.
FAMILY = f"""
import importlib.util, os, subprocess, sys, time
spec = importlib.util.spec_from_file_location("orphans", {str(ORPHANS)!r})
orphans = importlib.util.module_from_spec(spec)
spec.loader.exec_module(orphans)
if sys.argv[1:] == ["between"]:
    orphans.tie_to_supervisor()
    orphans.tie_children()
    worker = os.fork()
    if worker:
        print(os.getpid(), worker, flush=True)
else:
    orphans.name_supervisor()
    subprocess.Popen([sys.executable, __file__, "between"])
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("command", "unit", "ours"),
    [
        (PYTHON, "mlflow.service", True),
        (PYTHON, "", True),
        (PYTHON, "session-3.scope", True),
        (PYTHON, "my-own.service", False),
        ("/usr/bin/python3 -m http.server", "", False),
        ("/opt/mlflow/bin/python -m mlflow server", "", False),
    ],
)
def test_what_outlived_a_service(command: str, unit: str, ours: bool) -> None:
    assert is_leftover(Held(7, command, "mlflow", unit), "mlflow.service") is ours


def test_a_holder_in_words() -> None:
    assert str(Held(7, "/usr/bin/nc -l 5000", "ann", "")) == "nc (pid 7, account ann, no unit)"
    assert str(Held(7, "gunicorn: master", "ann", "shop.service")) == "gunicorn: (pid 7, account ann, shop.service)"
    assert str(Held(0, "", "ann", "")) == "a program of the account ann (`sudo mlflow-onprem status` names it)"


def test_without_root_it_is_told_whose_it_is() -> None:
    host = FakeHost(is_root=False)
    row = "   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22222 1\n"
    host.put("/proc/net/tcp", "header\n" + row)
    assert holders(host, 5000) == [Held(0, "", "root", "")]


@pytest.fixture
def listener() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another program with a port of its own."""
    child = subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    yield child, int(child.stdout.readline())
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_service_is_not_stopped_while_somebody_answers_on_its_port(listener: tuple[subprocess.Popen[str], int]) -> None:
    child, port = listener
    with pytest.raises(OnPremError, match=rf"no-such\.service is stopped, and python\S* \(pid {child.pid}, .* on its port {port}") as caught:
        stopped.prove(LocalHost(), "no-such.service", (port,))
    assert str(child.pid) in caught.value.hint or "systemctl stop" in caught.value.hint
    assert child.poll() is None, "a stranger is not ours to end"


def test_what_is_ours_is_ended(listener: tuple[subprocess.Popen[str], int], monkeypatch: pytest.MonkeyPatch) -> None:
    child, port = listener
    monkeypatch.setattr("mlflow_onprem.system.ports.is_leftover", lambda held, _unit: held.pid == child.pid)
    stopped.prove(LocalHost(), "no-such.service", (port,))
    assert child.wait(5) == -signal.SIGKILL


def test_status_names_who_has_the_port_of_a_service_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    host.programs["systemctl"] = lambda _: Result(0, "Id=mlflow.service\nLoadState=loaded\nActiveState=inactive\n", "")
    monkeypatch.setattr("mlflow_onprem.system.ports.holders", lambda _host, _port: [Held(77, "/usr/bin/python3 -m http.server", "ann", "")])
    probe = health.Probe("mlflow", "mlflow.service", 5000, lambda: "MLflow 3.17.2 serves")
    (verdict,) = health.look(Systemd(host, ("mlflow.service",)), [probe])
    assert verdict.detail == "its unit is inactive; the port MLflow 3.17.2 serves; the port is held by python3 (pid 77, account ann, no unit)"


@pytest.mark.parametrize(("uid", "main_pid", "named"), [(0, 0, True), (0, 42, True), (65534, 42, False), (65534, 0, True)])
def test_without_root_a_stranger_is_told_from_the_service_by_its_account(uid: int, main_pid: int, named: bool, tmp_path: Path) -> None:
    """The service, where it runs, is nobody's here."""
    host = FakeHost(is_root=False, backing=tmp_path)
    host.put("/proc/net/tcp", f"header\n   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  {uid}        0 22222 1\n")
    host.put("/proc/42", "", owner="nobody")
    found = foreign(host, 5000, "mlflow.service", main_pid)
    assert bool(found) is named
    assert all("`sudo mlflow-onprem status` names it" in str(each) and each.way_out == "sudo ss -ltnp" for each in found)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize("killed", ["supervisor", "between"])
def test_no_process_of_the_server_outlives_the_one_above_it(killed: str, tmp_path: Path) -> None:
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    supervisor = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    with closing(supervisor.stdout):
        between, worker = map(int, supervisor.stdout.readline().split())
        os.kill({"supervisor": supervisor.pid, "between": between}[killed], signal.SIGKILL)
        end = time.monotonic() + 10
        while not (gone(between) and gone(worker)):
            assert time.monotonic() < end, f"{between}, {worker} live on"
            time.sleep(0.01)
        supervisor.kill()
        supervisor.wait()


def test_one_that_comes_too_late_ends_at_once(tmp_path: Path) -> None:
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    assert subprocess.run([sys.executable, str(script), "between"], env={"ONPREM_SUPERVISOR_PID": "1"}, check=False, timeout=20).returncode == 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert holders(LocalHost(), probe.getsockname()[1]) == []
