"""IP forwarding: off again after the last sandbox, left on where others need it by now. With a real kernel: tests/host/test_forwarding.py."""

from __future__ import annotations

import json

import pytest
from mlflow_onprem_sandbox import forwarding
from mlflow_onprem_sandbox.forwarding import LINKS, NOTE, SWITCH, parse_links, parse_tables

from mlflow_onprem.core.host import Result
from tests.fakes import Call, FakeHost


class Machine:
    """A machine's switch, its links and its firewall tables."""

    def __init__(self, *, on: bool = False) -> None:
        self.links: dict[str, str | None] = {"eth0": None, "docker0": "bridge"}
        self.tables: list[tuple[str, str, str]] = [("ip", "old", "forward")]
        self.host = FakeHost()
        self.host.programs |= {"ip": self._ip, "nft": self._nft, "sysctl": self._sysctl}
        self.host.put(SWITCH, "1\n" if on else "0\n")
        for name in ("all", "default", "eth0", "eth1"):
            self.host.put(f"{LINKS}/{name}/forwarding", "1\n" if name == "eth1" or on else "0\n")

    @property
    def on(self) -> dict[str, str]:
        paths = {"": SWITCH, "eth0": f"{LINKS}/eth0/forwarding", "eth1": f"{LINKS}/eth1/forwarding"}
        return {name: (self.host.read(path) or b"").decode().strip() for name, path in paths.items()}

    def _ip(self, _: Call) -> Result:
        links = [{"ifname": name, "linkinfo": {"info_kind": kind} if kind else {}} for name, kind in self.links.items()]
        return Result(0, json.dumps(links), "")

    def _nft(self, _: Call) -> Result:
        chains = [{"chain": {"family": family, "table": table, "name": "x", "hook": hook}} for family, table, hook in self.tables]
        return Result(0, json.dumps({"nftables": [{"metainfo": {}}, *chains]}), "")

    def _sysctl(self, call: Call) -> Result:
        key, _, value = call.argv[-1].partition("=")
        if key == "net.ipv4.ip_forward":  # the kernel sets every link's along with it
            for path in (SWITCH, *(f"{LINKS}/{name}/forwarding" for name in ("all", "default", "eth0", "eth1"))):
                self.host.put(path, f"{value}\n")
        else:
            self.host.put(f"/proc/sys/{key}", f"{value}\n")
        return Result(0, "", "")


def test_it_is_as_it_was_after_the_last_sandbox() -> None:
    machine = Machine()
    forwarding.switch_on(machine.host)
    forwarding.switch_on(machine.host)
    assert machine.on == {"": "1", "eth0": "1", "eth1": "1"}
    assert forwarding.switch_back(machine.host) == ""
    assert machine.on == {"": "0", "eth0": "0", "eth1": "1"}, "a link that forwarded by itself does so again"
    assert machine.host.read(NOTE) is None
    assert forwarding.switch_back(machine.host) == "", "and again: nothing to do"


def test_a_machine_that_forwarded_before_us_goes_on() -> None:
    machine = Machine(on=True)
    forwarding.switch_on(machine.host)
    assert forwarding.switch_back(machine.host) == ""
    assert machine.on[""] == "1"


@pytest.mark.parametrize(
    ("link", "table", "file", "words"),
    [
        (("virbr0", "bridge"), None, None, "the link virbr0"),
        (("wg0", "wireguard"), None, None, "the link wg0"),
        (None, ("inet", "podman", "postrouting"), None, "the firewall table inet podman"),
        (None, None, "/etc/sysctl.d/60-router.conf", "/etc/sysctl.d/60-router.conf"),
    ],
)
def test_who_came_meanwhile_keeps_it(link: tuple[str, str] | None, table: tuple[str, str, str] | None, file: str | None, words: str) -> None:
    machine = Machine()
    forwarding.switch_on(machine.host)
    machine.links |= dict([link] if link else [])
    machine.tables += [table] if table else []
    if file:
        machine.host.put(file, "# a router\nnet.ipv4.ip_forward = 1\n")
    assert forwarding.switch_back(machine.host) == words
    assert machine.on[""] == "1"
    assert machine.host.read(NOTE) is None, "it is theirs from now on"


def test_the_last_of_several_state_folders_switches_it_off() -> None:
    machine = Machine()
    forwarding.switch_on(machine.host)
    machine.links["mlop1a2b3c"] = "bridge"
    assert "mlop1a2b3c" in forwarding.switch_back(machine.host)
    assert machine.on[""] == "1"
    del machine.links["mlop1a2b3c"]
    assert forwarding.switch_back(machine.host) == ""
    assert machine.on[""] == "0"


def test_somebody_who_switched_it_off_meanwhile_is_right() -> None:
    machine = Machine()
    forwarding.switch_on(machine.host)
    machine.host.put(SWITCH, "0\n")
    calls = len(machine.host.calls)
    assert forwarding.switch_back(machine.host) == ""
    assert len(machine.host.calls) == calls
    assert machine.host.read(NOTE) is None


def test_what_ip_and_nft_print() -> None:
    assert parse_links("") == []
    assert parse_links('[{"ifname": "eth0", "linkinfo": {"info_kind": "virtio"}}, {"ifname": "br0", "linkinfo": {"info_kind": "bridge"}}]') == ["br0"]
    assert parse_tables("") == []
    assert parse_tables('{"nftables": [{"chain": {"family": "ip", "table": "t", "name": "in", "hook": "input"}}]}') == []
