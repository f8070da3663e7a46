"""What scenarios do to a host, and what they look at."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow_onprem_sandbox import Sandbox, product

from mlflow_onprem.core.host import Result

UNITS = ("minio.service", "postgresql@15-main.service", "mlflow.service")
ANY = range(256)


def configured(config: str, *, minio: str = "", postgres: str = "", mlflow: str = "", auth: str = "") -> str:
    """The configuration of the tests (its [minio] comes last in it) with further lines in its sections."""
    return f"{config}{minio}\n[postgres]\n{postgres}\n[mlflow]\n{mlflow}\n[mlflow.auth]\n{auth}\n"


def install(server: Sandbox, config: str | None = None) -> dict[str, Any]:
    """Write the configuration, install, and return what it reports. Raises CommandFailed."""
    if config is not None:
        server.write(product.CONFIG, config)
    answer: dict[str, Any] = json.loads(server.run(["mlflow-onprem", "install", "--json"], timeout=600).out)
    return answer


def attempt(server: Sandbox, config: str | None = None, *, env: Mapping[str, str] | None = None) -> Result:
    """An install that may fail; its exit status, standard output and error."""
    if config is not None:
        server.write(product.CONFIG, config)
    return server.run(["mlflow-onprem", "install"], ok=ANY, timeout=600, env=env)


def plan(server: Sandbox, *, user: str | None = None, env: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """Exit status and answer of `plan`."""
    result = server.run(["mlflow-onprem", "plan", "--json"], user=user, ok=(0, 3), env=env)
    return result.code, json.loads(result.out)


def assert_as_wanted(server: Sandbox) -> None:
    """An empty plan."""
    code, found = plan(server)
    assert (code, found["changes"]) == (0, []), found["changes"]


def status(server: Sandbox, *, user: str | None = None) -> tuple[int, dict[str, Any]]:
    """Exit status and answer of `status`."""
    result = server.run(["mlflow-onprem", "status", "--json"], user=user, ok=(0, 4))
    return result.code, json.loads(result.out)


def show(server: Sandbox, unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
    text = server.run(["systemctl", "show", unit, f"--property={','.join(names)}"]).out
    return dict(line.partition("=")[::2] for line in text.splitlines())


def running(server: Sandbox) -> dict[str, tuple[str, str]]:
    """Each unit of ours: which start of it this is, and its main process."""
    found = {unit: show(server, unit, "InvocationID", "MainPID") for unit in UNITS}
    return {unit.partition("@")[0].partition(".")[0]: (each["InvocationID"], each["MainPID"]) for unit, each in found.items()}


def restarted(before: Mapping[str, tuple[str, str]], after: Mapping[str, tuple[str, str]]) -> set[str]:
    """Which services are not the ones that ran before."""
    return {name for name in after if after[name] != before[name]}


def leftovers(server: Sandbox) -> list[str]:
    """Half-written files, by the names we give to them."""
    names = [".*.part", "*.download", ".*.new", "*.new", ".config.toml.*", ".credentials.json.*", ".mlflow.env.*", ".manifest.json.*"]
    tests = [word for name in names for word in ("-o", "-name", name)][1:]
    found = server.run(["find", "/etc", "/opt", "/var/lib/mlflow-onprem", "-xdev", "(", *tests, ")"], ok=(0, 1)).out.split()
    return [path for path in found if "/site-packages/" not in path and "/.minio.sys/" not in path]


def psql(server: Sandbox, statement: str, database: str = "postgres") -> str:
    """One statement as the administrator of the database."""
    return server.run(["psql", "--no-psqlrc", "-qtA", "-d", database, "-c", statement], user="postgres").out.strip()


def until(holds: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)


def python_in(server: Sandbox, name: str, argv: Sequence[str], port: int | None = None) -> None:
    """A program of the host's own Python as a service of its own."""
    server.run(["systemd-run", "--quiet", "--collect", f"--unit={name}", "python3", *argv])
    if port is not None:
        until(lambda: re.search(rf":{port}\s", server.run(["ss", "-Hltn"]).out) is not None, f"{name} listens on {port}")


def on_terminal(server: Sandbox, argv: Sequence[str], *typing: tuple[str, str]) -> Result:
    """A command on a terminal; each of `typing` is what must be read there first, and what is typed then."""
    server.push(Path(__file__).with_name("terminal.py"), "/root/terminal.py")
    job = json.dumps({"argv": list(argv), "typing": typing})
    return server.run(["python3", "/root/terminal.py"], stdin=job, env={"TERM": "xterm"}, ok=ANY, timeout=60)
