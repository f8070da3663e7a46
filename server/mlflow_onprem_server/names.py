"""Which names a request may carry in its Host header, and which web pages may change something here.

Host: DNS rebinding makes a browser take the attacker's *name* for this server. It cannot do that with an address
in numbers, since a browser goes to the very machine that they stand for; so addresses need no list, and none has
to be followed when this host gets another one. A name must be one of this host's own or one of the configured.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

# An address of version 6 may name the interface it is reached by, behind a per cent sign; that is the client's, not ours.
_SIX = r"\[(?P<six>[0-9a-f:.]+)(?:%[\w.%-]+)?\]"
_NAME = re.compile(rf"(?:{_SIX}|(?P<name>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_-])?)\.?)(?::(?P<port>\d{{1,5}}))?", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_OWN_FILES = ("etc/hostname", "etc/hosts", "etc/resolv.conf")


@dataclass(frozen=True)
class Address:
    """A name or an address in numbers as a client wrote it: lower case, no final dot, no brackets. `port` is None where none was given."""

    name: str
    port: int | None = None

    @property
    def is_number(self) -> bool:
        """An IP address, of either version."""
        return _ip(self.name) is not None

    @property
    def is_loopback(self) -> bool:
        """localhost, what browsers keep on the own machine like it, and 127.0.0.0/8 and ::1."""
        found = _ip(self.name)
        return found.is_loopback if found is not None else self.name == "localhost" or self.name.endswith(".localhost")


@dataclass(frozen=True)
class Entry:
    """One configured name: on any port unless it has one, and with `suffix` every name that ends in it."""

    address: Address
    suffix: bool = False

    def fits(self, asked: Address) -> bool:
        """A port that is not written is that of http or https: a proxy before us hands both on alike."""
        mine, port = self.address, asked.port
        named = asked.name.endswith(f".{mine.name}") if self.suffix else asked.name == mine.name
        return named and (mine.port is None or mine.port == port or (port is None and mine.port in _DEFAULT_PORTS.values()))


def parse(text: str) -> Address | None:
    """A Host header; None for what is none."""
    found = _NAME.fullmatch(text.strip().lower())
    if found is None or (found["port"] and int(found["port"]) > 65535):
        return None
    if found["six"] and _ip(found["six"]) is None:
        return None
    return Address(found["six"] or found["name"], int(found["port"]) if found["port"] else None)


def entry(text: str) -> Entry | None:
    """An entry of the configuration: name, name:port, *.suffix, an address, with or without brackets; None for anything else."""
    suffix = text.startswith("*.")
    address = Address(text.lower()) if _ip(text) is not None else parse(text.removeprefix("*."))
    return None if address is None else Entry(address, suffix)


def parse_origin(text: str) -> tuple[str, Address] | None:
    """Scheme and address of an Origin header, its port always known; None for `null` and what no web page has."""
    try:
        parts = urlsplit(text.strip().lower())
    except ValueError:
        return None
    address = parse(parts.netloc)
    if parts.scheme not in _DEFAULT_PORTS or address is None or parts.path or parts.query:
        return None
    return parts.scheme, Address(address.name, address.port or _DEFAULT_PORTS[parts.scheme])


def own_names(hostnames: Iterable[str], hosts: str, resolver: str) -> frozenset[str]:
    """What this host is called, in lower case: its names, those beside them in /etc/hosts, and the short ones in the domains it searches."""
    names = {name.lower().rstrip(".") for name in hostnames} - {""}
    short = {name.partition(".")[0] for name in names}
    found = names | short
    for line in hosts.lower().splitlines():
        fields = line.partition("#")[0].split()
        if found & set(fields[1:]):
            names |= set(fields[1:])
    domains = {"local"}  # multicast DNS
    for line in resolver.lower().splitlines():
        fields = line.partition("#")[0].split()
        if fields and fields[0] in ("search", "domain"):
            domains |= {field.strip(".") for field in fields[1:]} - {""}
    return frozenset(names | short | {f"{name}.{domain}" for name in short for domain in domains})


class OwnNames:
    """This host's names as they are now: read again when a name is asked for that is not among them and a file has changed."""

    def __init__(self, root: Path = Path("/"), hostname: Callable[[], str] = socket.gethostname) -> None:
        self._files = [root / name for name in _OWN_FILES]
        self._hostname = hostname
        self._seen: tuple[object, ...] = ()
        self._names: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        if name not in self._names:
            self._refresh()
        return name in self._names

    def _refresh(self) -> None:
        seen = (self._hostname(), *(_stamp(path) for path in self._files))
        if seen != self._seen:
            static, hosts, resolver = (_read(path) for path in self._files)
            self._names, self._seen = own_names((self._hostname(), static.strip()), hosts, resolver), seen


class Names:
    """The rule: the host's own names, the configured `hosts`, and the `origins` of other sites whose pages may write."""

    def __init__(self, hosts: Iterable[str], origins: Iterable[str], own: OwnNames) -> None:
        self._entries = tuple(each for text in hosts if (each := entry(text)) is not None)
        self._origins = tuple(found for text in origins if (found := _origin_entry(text)) is not None)
        self._own = own

    def serves(self, asked: Address) -> bool:
        """Whether a request for this name is one for this server."""
        return asked.is_number or asked.is_loopback or self._listed(asked) or asked.name in self._own

    def may_write(self, origin: str, asked: Address) -> bool:
        """Whether a page of `origin` may change something, in a request for `asked`: a page of this server by any name of it, on any port.

        An address in numbers says nothing here: everybody's web server has one. Only that which the request itself went to counts.
        """
        found = parse_origin(origin)
        if found is None:
            return False
        scheme, page = found
        if page.name == asked.name or page.is_loopback or self._listed(page) or page.name in self._own:
            return True
        return any(scheme == wanted and each.fits(page) for wanted, each in self._origins)

    def _listed(self, asked: Address) -> bool:
        return any(each.fits(asked) for each in self._entries)


def _origin_entry(text: str) -> tuple[str, Entry] | None:
    scheme, _, rest = text.lower().partition("://")
    found = entry(rest)
    if found is None or scheme not in _DEFAULT_PORTS:
        return None
    port = found.address.port or _DEFAULT_PORTS[scheme]
    return scheme, Entry(Address(found.address.name, port), found.suffix)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
