"""A service that is stopped: proven by its ports and by its processes, not by systemd's word alone."""

from __future__ import annotations

from collections.abc import Iterable

from mlflow_onprem.core import wait
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.system import ports as ports_module

PATIENCE = 10.0  # seconds for a killed process to be gone


def stop(host: Host, unit: str, ports: Iterable[int]) -> None:
    """Stop it, and see that it is. Raises CommandFailed, OnPremError."""
    host.run(["systemctl", "stop", unit], ok=(0, 5), timeout=180)
    prove(host, unit, ports)


def prove(host: Host, unit: str, ports: Iterable[int]) -> None:
    """End what outlived the service. Raises OnPremError where somebody else answers on one of its ports: clients would take it for the service."""
    ports = tuple(ports)
    left = {int(each) for each in (host.read(f"/sys/fs/cgroup/system.slice/{unit}/cgroup.procs") or b"").split()}
    left |= {each.pid for port in ports for each in ports_module.holders(host, port) if ports_module.is_leftover(each, unit)}
    if left:
        host.say(f"ending what outlived {unit}: {', '.join(str(ports_module.describe(host, pid)) for pid in sorted(left))}")
        host.run(["kill", "-KILL", *map(str, sorted(left))], ok=(0, 1))
        if not wait.until(lambda: not any(_runs(host, pid) for pid in left), PATIENCE):
            raise OnPremError(f"{unit} is stopped, and {ports_module.describe(host, min(left))} of it does not end", "restart this host")
    for port in ports:
        for each in ports_module.holders(host, port):
            raise OnPremError(
                f"{unit} is stopped, and {each} answers on its port {port}: clients would take it for the service",
                f"stop it ({each.way_out}), then run this again",
            )


def _runs(host: Host, pid: int) -> bool:
    text = (host.read(f"/proc/{pid}/stat") or b"").decode(errors="replace")
    return bool(text) and text.rpartition(")")[2].split()[0] != "Z"
