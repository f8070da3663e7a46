"""Who listens on a port. Read from /proc, so no tool is needed for it; the one place that reads /proc/net/tcp."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pwd
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow_onprem.core.host import Host

LISTEN = "0A"
#: Every program of ours, and nobody else's, is started from below here.
OURS = "/opt/mlflow-onprem/"
#: How a unit of somebody's own systemd is told from the system's of the same name.
USER_UNIT = "user unit "


@dataclass(frozen=True)
class Listener:
    """A TCP socket that waits for connections: its address and port, its inode, and the number of the account that opened it."""

    address: str
    port: int
    inode: str = ""
    uid: int = 0

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.address).is_loopback


@dataclass(frozen=True)
class Held:
    """One process that listens on a port: its command line's words, its account, its unit (empty: none, a terminal's).

    `pid` is 0 where only root may see which process it is.
    """

    pid: int
    command: str
    user: str
    unit: str

    @property
    def program(self) -> str:
        return self.command.partition(" ")[0].rpartition("/")[2] or "a program"

    @property
    def way_out(self) -> str:
        """The command that ends it, or the one that shows what it is."""
        if self.unit.startswith(USER_UNIT):
            return f"sudo systemctl --user --machine={self.user}@ stop {self.unit.removeprefix(USER_UNIT)}"
        if self.unit.endswith(".service"):
            return f"sudo systemctl stop {self.unit}"
        return f"sudo kill {self.pid}" if self.pid else "sudo ss -ltnp"

    def __str__(self) -> str:
        if not self.pid:
            return f"a program of the account {self.user} (`sudo mlflow-onprem status` names it)"
        return f"{self.program} (pid {self.pid}, account {self.user}, {self.unit or 'no unit'})"


def listeners(host: Host) -> list[Listener]:
    """Every listening TCP socket."""
    return [each for name in ("tcp", "tcp6") for each in parse(_text(host, f"/proc/net/{name}"))]


def parse(text: str) -> list[Listener]:
    """Listening sockets of /proc/net/tcp or tcp6, whose addresses are 32-bit words in the machine's byte order."""
    found = []
    for row in (line.split() for line in text.splitlines()[1:]):
        if len(row) > 3 and row[3] == LISTEN:
            word, _, port = row[1].rpartition(":")
            raw = b"".join(bytes.fromhex(word[at : at + 8])[::-1] for at in range(0, len(word), 8))
            address = ipaddress.ip_address(raw)
            mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
            found.append(Listener(str(mapped or address), int(port, 16), *((row[9], int(row[7])) if len(row) > 9 else ())))
    return found


def holders(host: Host, port: int) -> list[Held]:
    """Everybody who listens there. Without root another account's processes cannot be seen, only that it is theirs."""
    sockets = {f"socket:[{each.inode}]": each for each in listeners(host) if each.port == port}
    if not sockets:
        return []
    links = {pid: _links(host, pid) & sockets.keys() for pid in pids(host)}
    found = [describe(host, pid) for pid, held in links.items() if held]
    hidden = sockets.keys() - {each for held in links.values() for each in held}
    return found + [Held(0, "", _account(uid), "") for uid in sorted({sockets[each].uid for each in hidden})]


def strangers(host: Host, ports: Iterable[int], unit: str) -> list[tuple[int, Held]]:
    """Who listens on these ports and does not belong to the unit. What only root may see counts as the unit's."""
    return [(port, each) for port in ports for each in holders(host, port) if each.pid and not each.unit.startswith(unit)]


def foreign(host: Host, port: int, unit: str, main_pid: int) -> list[Held]:
    """Who listens there and is not the unit, as far as this account may know; `main_pid` is the unit's main process, 0 where it does not run.

    Without root only accounts are seen: the service's own is taken for the service while that runs.
    """
    found = [each for _, each in strangers(host, (port,), unit)]
    if found or host.is_root:
        return found
    main = host.stat(f"/proc/{main_pid}") if main_pid else None
    return [each for each in holders(host, port) if not each.pid and (main is None or each.user != main.owner)]


def is_leftover(held: Held, unit: str) -> bool:
    """Whether it is a process of ours that outlived its service: one of our programs, in that unit or in none that runs a service."""
    return OURS in held.command and (held.unit == unit or not held.unit.endswith(".service"))


def describe(host: Host, pid: int) -> Held:
    """One process."""
    command = (host.read(f"/proc/{pid}/cmdline") or b"").replace(b"\0", b" ").decode(errors="replace").strip()
    found = host.stat(f"/proc/{pid}")
    units = re.findall(r"([^/\n]+\.(?:service|scope))", _text(host, f"/proc/{pid}/cgroup"))
    unit = units[-1] if units else ""
    of_a_user = USER_UNIT if len(units) > 1 and units[0].startswith("user@") else ""
    return Held(pid, command, found.owner if found is not None else "", f"{of_a_user}{unit}")


def pids(host: Host) -> list[int]:
    """Every process."""
    return [int(name) for name in host.listdir("/proc") if name.isdigit()]


def _text(host: Host, path: str) -> str:
    return (host.read(path) or b"").decode(errors="replace")


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _links(host: Host, pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours to look at
        for each in host.local(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                found.add(os.readlink(each))
    return found
