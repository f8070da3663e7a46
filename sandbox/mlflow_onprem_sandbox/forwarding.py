"""IPv4 forwarding of this machine: switched on for sandboxes, and off again only where nobody else has come to need it.

What was there at the moment of switching did without. Who came later (another bridge, a tunnel, a container's link, a firewall table that forwards
or translates addresses, a line in sysctl's files) may rely on it, and keeps it. The kernel sets each link's own switch along with the one for all, so
those that were on by themselves come back on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from mlflow_onprem.core.host import Host

#: In /run, as the switch itself is gone at a reboot; one for all state folders, as the machine has one switch.
NOTE = "/run/mlflow-onprem-forwarding.json"
SWITCH = "/proc/sys/net/ipv4/ip_forward"
LINKS = "/proc/sys/net/ipv4/conf"
#: Our own bridges and what hangs on them, of any state folder.
OURS = "mlop"
#: Links that stand for other hosts behind this one.
KINDS = ("bridge", "veth", "tun", "wireguard", "vxlan", "geneve", "gre", "ipip", "macvlan", "ipvlan", "vrf", "openvswitch")
FILES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
SETTING = re.compile(r"^\s*-?\s*net[./]ipv4[./]ip_forward\s*=\s*1\b", re.MULTILINE)


def switch_on(host: Host) -> None:
    """On, with a note of how it was and who did without. Nothing to do where it is on."""
    if (host.read(SWITCH) or b"").strip() == b"1":
        return
    note = {"links": _links(host), "on": _on(host), "tables": _tables(host)}
    host.write(NOTE, json.dumps(note).encode(), mode=0o600, owner="root", group="root")
    host.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])


def switch_back(host: Host) -> str:
    """As it was, where we switched it on and nobody needs it since; otherwise it stays on, and who needs it is returned in words."""
    text = host.read(NOTE)
    if text is None:
        return ""
    if (host.read(SWITCH) or b"").strip() != b"1":  # somebody switched it off meanwhile: that is theirs
        host.remove(NOTE)
        return ""
    was = json.loads(text)
    links = sorted(set(_links(host)) - set(was["links"]))
    tables = sorted(set(_tables(host)) - set(was["tables"]))
    if others := [name for name in (*links, *tables) if OURS in name]:
        return f"other sandboxes of this machine ({', '.join(others)})"  # the last of them switches it off
    host.remove(NOTE)
    files = _files(host)
    if links or tables or files:
        return ", ".join([*(f"the link {name}" for name in links), *(f"the firewall table {name}" for name in tables), *files])
    host.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=0"])
    for name in was["on"]:
        if host.stat(f"{LINKS}/{name}/forwarding") is not None:
            host.run(["sysctl", "-q", "-w", f"net/ipv4/conf/{name}/forwarding=1"])
    return ""


def parse_links(text: str) -> list[str]:
    """`ip -json -details link` -> the links that stand for other hosts; a virtual machine's own network card is none."""
    links: list[dict[str, Any]] = json.loads(text or "[]")
    return [link["ifname"] for link in links if link.get("linkinfo", {}).get("info_kind") in KINDS]


def parse_tables(text: str) -> list[str]:
    """`nft -json list chains` -> the tables that look at forwarded packets or translate addresses."""
    chains = [item["chain"] for item in json.loads(text or "{}").get("nftables", []) if "chain" in item]
    hooks = ("forward", "postrouting", "prerouting")
    return sorted({f"{each['family']} {each['table']}" for each in chains if each.get("hook") in hooks})


def _links(host: Host) -> list[str]:
    return parse_links(host.run(["ip", "-json", "-details", "link", "show"]).out)


def _tables(host: Host) -> list[str]:
    return parse_tables(host.run(["nft", "-json", "list", "chains"], ok=(0, 1)).out)


def _on(host: Host) -> list[str]:
    """Links that forward by their own switch; `all` and `default` are the machine's."""
    names: Iterable[str] = host.listdir(LINKS)
    return [name for name in names if name not in ("all", "default") and (host.read(f"{LINKS}/{name}/forwarding") or b"").strip() == b"1"]


def _files(host: Host) -> list[str]:
    """Files that switch it on at every boot: whoever wrote one wants it."""
    paths = ["/etc/sysctl.conf", *(f"{folder}/{name}" for folder in FILES for name in host.listdir(folder) if name.endswith(".conf"))]
    return [path for path in paths if SETTING.search((host.read(path) or b"").decode(errors="replace"))]
