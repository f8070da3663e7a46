"""Who holds a port of ours: no worker outlives its service, and anybody else is named with pid and program by every command."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from mlflow_onprem_sandbox import Sandbox

from tests.host import steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host

UNIT = "mlflow.service"
#: Nothing but the processes' own ties ends them with the service's main process.
LEFT_ALONE = "[Service]\nRestart=no\nKillMode=process\n"
DROP_IN = f"/run/systemd/system/{UNIT}.d/99-left-alone.conf"
PYTHON = "/opt/mlflow-onprem/environments/current/bin/python"
LEFTOVER = "import socket, time; held = socket.create_server(('0.0.0.0', 5000)); time.sleep(3600)"


def test_who_holds_the_port(host: HostFactory) -> None:
    """One host, one service: its main process is killed, its port taken by a stranger, then by what looks like a process of its own."""
    server = host()
    server.write(DROP_IN, LEFT_ALONE)
    server.run(["systemctl", "daemon-reload"])
    server.run(["kill", "-KILL", steps.show(server, UNIT, "MainPID")["MainPID"]])
    steps.until(lambda: not holds(server), "no process of the service is left", 10)
    server.run(["rm", DROP_IN])
    server.run(["systemctl", "daemon-reload"])

    steps.python_in(server, "stranger", ["-m", "http.server", "5000"], 5000)
    pid = steps.show(server, "stranger.service", "MainPID")["MainPID"]
    named = f"python3 (pid {pid}, account root, stranger.service)"
    found = mlflow(server, "root")
    assert (found["healthy"], named in found["detail"], "sudo systemctl stop stranger.service" in found["fix"]) == (False, True, True), found
    assert "the port is held by a program of the account root (`sudo mlflow-onprem status` names it)" in mlflow(server, "nobody")["detail"]
    refused = steps.attempt(server)
    assert (refused.code, named in refused.err) == (1, True), refused.err
    doctor = server.run(["mlflow-onprem", "doctor"], ok=(4,), timeout=120).out
    assert named in doctor
    assert not re.search("foreign name|no account", doctor), "the stranger was asked, with the administrator's password"
    server.run(["systemctl", "stop", "stranger.service"])

    server.run(["systemd-run", "--quiet", "--scope", "--collect", "sh", "-c", 'setsid "$0" -c "$1" </dev/null >/dev/null 2>&1 &', PYTHON, LEFTOVER])
    steps.until(lambda: holds(server), "the leftover listens")
    done = steps.attempt(server)
    assert (done.code, f"ending what outlived {UNIT}: python (pid " in done.err) == (0, True), done.err
    assert steps.status(server)[0] == 0


def holds(server: Sandbox) -> bool:
    """Whether anybody listens on MLflow's port."""
    return server.run(["ss", "-Hltn", "sport = :5000"]).out.strip() != ""


def mlflow(server: Sandbox, user: str) -> dict[str, Any]:
    """What `status` says of MLflow."""
    services = json.loads(server.run(["mlflow-onprem", "status", "--json"], user=user, ok=(4,)).out)["services"]
    found: dict[str, Any] = next(each for each in services if each["name"] == "mlflow")
    return found
