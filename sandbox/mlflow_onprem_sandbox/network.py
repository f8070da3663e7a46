"""One bridge for all sandboxes of a state folder; each host has a network namespace and an address on it.

What we add to the machine: the bridge, one nftables table of our own and IPv4 forwarding; `remove` undoes all three.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem_sandbox import forwarding

DEFAULT_STATE = "/var/lib/mlflow-onprem-sandbox"
_RANGES = ("10.87.0.0/16", "172.30.0.0/16", "192.168.192.0/18")
#: nftables: {bridge} and {subnet} are ours; a host in the set `isolated` talks to the bridge and to nothing behind it.
_TABLE = """\
table ip {bridge} {{
    set isolated {{
        type ipv4_addr
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname "{bridge}" oifname "{bridge}" accept
        ip saddr @isolated drop
        ip daddr @isolated drop
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {subnet} oifname != "{bridge}" masquerade
    }}
}}
"""


@dataclass(frozen=True)
class Network:
    """The bridge, its /24 and what the machine's own link can carry in one packet."""

    bridge: str
    subnet: IPv4Network
    mtu: int

    @property
    def gateway(self) -> str:
        return str(self.subnet[1])


def bridge_name(state: str) -> str:
    """`mlop0`, or a name of its own for another state folder: two of them never meet."""
    return "mlop0" if state == DEFAULT_STATE else f"mlop{hashlib.sha256(state.encode()).hexdigest()[:6]}"


def free_subnet(taken: Iterable[IPv4Network]) -> IPv4Network:
    """The first private /24 that no route of this machine leads to. Raises Refused."""
    routes = list(taken)
    for wide in _RANGES:
        for subnet in ipaddress.IPv4Network(wide).subnets(new_prefix=24):
            if not any(subnet.overlaps(route) for route in routes):
                return subnet
    raise Refused("every private network a sandbox could use is routed somewhere by this machine", "look at `ip route show table all`")


def parse_routes(text: str) -> list[IPv4Network]:
    """`ip -json -4 route show table all` -> destinations, the default route left out."""
    return [_network(route["dst"]) for route in json.loads(text or "[]") if route.get("dst", "default") != "default"]


def parse_forward_drops(text: str) -> list[str]:
    """`nft -json list chains` -> the tables whose forward hook drops what nobody accepted (Docker's and ufw's do)."""
    chains = [item["chain"] for item in json.loads(text or "{}").get("nftables", []) if "chain" in item]
    return sorted({f"{chain['family']} {chain['table']}" for chain in chains if chain.get("hook") == "forward" and chain.get("policy") == "drop"})


def ensure(host: LocalHost, state: str) -> Network:
    """Make the bridge, its firewall table and forwarding, or leave them as they are. Called under the state folder's lock."""
    bridge = bridge_name(state)
    mtu = _mtu(host)
    found = _address(host, bridge)
    if found is None:
        host.run(["ip", "link", "del", bridge], ok=(0, 1))
        subnet = free_subnet(parse_routes(host.run(["ip", "-json", "-4", "route", "show", "table", "all"]).out))
        host.run(["ip", "link", "add", bridge, "mtu", str(mtu), "type", "bridge"])
        host.run(["ip", "address", "add", f"{subnet[1]}/24", "dev", bridge])
        host.run(["ip", "link", "set", bridge, "up"])
    else:
        subnet = found
    if host.run(["nft", "list", "table", "ip", bridge], ok=(0, 1)).code:
        host.run(["nft", "-f", "-"], stdin=_TABLE.format(bridge=bridge, subnet=subnet))
    forwarding.switch_on(host)
    return Network(bridge, subnet, mtu)


def remove(host: LocalHost, state: str) -> str:
    """Undo everything that `ensure` did; forwarding stays on where others need it by now, who they are is returned in words."""
    bridge = bridge_name(state)
    host.run(["ip", "link", "del", bridge], ok=(0, 1))
    host.run(["nft", "delete", "table", "ip", bridge], ok=(0, 1))
    return forwarding.switch_back(host)


def blocked(host: LocalHost) -> str:
    """Why packets of a sandbox may not leave, in a sentence, or nothing."""
    tables = parse_forward_drops(host.run(["nft", "-json", "list", "chains"], ok=(0, 1)).out)
    return f"this machine's firewall ({', '.join(tables)}) drops forwarded packets" if tables else ""


def namespace(network: Network, name: str) -> str:
    """The network namespace of a host, as `ip netns` knows it."""
    return f"{network.bridge}-{name}"


def attach(host: LocalHost, network: Network, name: str, address: str, *, isolated: bool) -> str:
    """Make a host's namespace with `eth0` in it, fresh; returns the path for systemd-nspawn."""
    inside = namespace(network, name)
    detach(host, network, name, address)
    port = f"{network.bridge}.{address.rpartition('.')[2]}"
    mtu = ["mtu", str(network.mtu)]
    host.run(["ip", "netns", "add", inside])
    host.run(["ip", "link", "add", port, *mtu, "type", "veth", "peer", "name", "eth0", "address", hardware(address), *mtu, "netns", inside])
    host.run(["ip", "link", "set", port, "master", network.bridge, "up"])
    # The namespace is whole before the host boots: no service inside ever sees half a network, and a reboot finds it again.
    steps = ["link set lo up", f"address add {address}/24 dev eth0", "link set eth0 up"]
    if isolated:
        host.run(["nft", "add", "element", "ip", network.bridge, "isolated", f"{{ {address} }}"])
    else:
        steps.append(f"route add default via {network.gateway}")
    host.run(["ip", "-netns", inside, "-batch", "-"], stdin="".join(f"{step}\n" for step in steps))
    return f"/run/netns/{inside}"


def detach(host: LocalHost, network: Network, name: str, address: str) -> None:
    """Remove a host's namespace (its cable goes with it) and its entry in the firewall; nothing there is fine."""
    host.run(["ip", "link", "del", f"{network.bridge}.{address.rpartition('.')[2]}"], ok=(0, 1))
    host.run(["ip", "netns", "del", namespace(network, name)], ok=(0, 1))
    host.run(["nft", "delete", "element", "ip", network.bridge, "isolated", f"{{ {address} }}"], ok=(0, 1))


def hardware(address: str) -> str:
    """The Ethernet address that goes with an IPv4 address: the next host there has the same, so nobody's neighbour table sends it astray."""
    return "02:6d:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)


def free_address(network: Network, taken: Iterable[str], preferred: str = "") -> str:
    """The preferred address, or the lowest that nobody has. Raises OnPremError when 253 sandboxes exist."""
    used = {*taken, network.gateway}
    if preferred and preferred not in used and ipaddress.IPv4Address(preferred) in network.subnet:
        return preferred
    for address in list(network.subnet.hosts())[1:]:
        if str(address) not in used:
            return str(address)
    raise OnPremError("no address is left for another sandbox", "`sudo mlflow-onprem sandbox down --all`")


def _network(text: str) -> IPv4Network:
    return ipaddress.IPv4Network(text, strict=False)


def _address(host: LocalHost, bridge: str) -> IPv4Network | None:
    links: list[dict[str, Any]] = json.loads(host.run(["ip", "-json", "-4", "address", "show", "dev", bridge], ok=(0, 1)).out or "[]")
    for link in links:
        for address in link.get("addr_info", []):
            return _network(f"{address['local']}/{address['prefixlen']}")
    return None


def _mtu(host: LocalHost) -> int:
    routes: list[dict[str, Any]] = json.loads(host.run(["ip", "-json", "-4", "route", "show", "default"]).out or "[]")
    with contextlib.suppress(IndexError, KeyError):
        return int(json.loads(host.run(["ip", "-json", "link", "show", "dev", routes[0]["dev"]]).out)[0]["mtu"])
    return 1500
