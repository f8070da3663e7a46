"""IP forwarding with a real kernel, in a network namespace of its own: this machine's switch is not touched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_onprem.system.local_host import LocalHost

pytestmark = pytest.mark.host

SCRIPT = """
import sys
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem_sandbox import forwarding, network
forwarding.NOTE = sys.argv[2]
answer = getattr(network, sys.argv[1])(LocalHost(), sys.argv[2])
print(answer if isinstance(answer, str) else "")
"""


class Machine:
    """A network namespace with a link to the outside."""

    def __init__(self, name: str, note: Path) -> None:
        self.name, self.note, self.host = name, note, LocalHost()
        self.host.run(["ip", "netns", "add", name])
        self.inside("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "cable")
        self.inside("ip", "link", "set", "cable", "up")
        self.inside("ip", "address", "add", "198.51.100.2/24", "dev", "eth0")
        self.inside("ip", "link", "set", "eth0", "up")
        self.inside("ip", "route", "add", "default", "via", "198.51.100.1")

    def inside(self, *argv: str) -> str:
        return self.host.run(["ip", "netns", "exec", self.name, *argv]).out.strip()

    def sandboxes(self, verb: str) -> str:
        """`ensure` or `remove`, of a state folder of this test's own."""
        argv = ["ip", "netns", "exec", self.name, sys.executable, "-c", SCRIPT, verb, str(self.note)]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    @property
    def forwards(self) -> list[str]:
        return self.inside("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv4.conf.eth0.forwarding").split()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(f"mlop-test-{os.getpid()}", tmp_path / "note")
    made.inside("sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    yield made
    made.host.run(["ip", "netns", "del", made.name])


@pytest.mark.long  # not seen green since the modules moved
def test_the_switch_goes_back_and_others_keep_it(machine: Machine) -> None:
    machine.sandboxes("ensure")
    assert machine.forwards == ["1", "1"]
    assert machine.sandboxes("remove") == ""
    assert machine.forwards == ["0", "0"]

    machine.inside("sysctl", "-q", "-w", "net.ipv4.conf.eth0.forwarding=1")
    machine.sandboxes("ensure")
    assert machine.sandboxes("remove") == ""
    assert machine.forwards == ["0", "1"], "a link that forwarded by itself still does"

    machine.sandboxes("ensure")
    machine.inside("ip", "link", "add", "virbr0", "type", "bridge")
    assert machine.sandboxes("remove") == "the link virbr0"
    assert machine.forwards == ["1", "1"]
    assert "mlop" not in machine.inside("ip", "-br", "link") + machine.inside("nft", "list", "tables")

    machine.sandboxes("ensure")
    machine.inside("sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    assert machine.sandboxes("remove") == ""
    assert machine.forwards == ["0", "0"], "somebody switched it off meanwhile"

    machine.sandboxes("ensure")
    machine.inside("nft", "add table inet router { chain out { type nat hook postrouting priority 100; }; }")
    assert machine.sandboxes("remove") == "the firewall table inet router"
    assert machine.forwards[0] == "1"
