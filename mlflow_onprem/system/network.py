"""Why a download failed, in plain words, and which settings of this host decide how programs reach the network.

One place for all that fetch: apt, pip, uv, go, mmdebstrap and our own requests say the same failure in six ways.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlflow_onprem.core.errors import CommandFailed
from mlflow_onprem.core.host import Host

#: Every authority that this host trusts; `update-ca-certificates` writes it.
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_PROXY = "set https_proxy and http_proxy to your company's proxy in /etc/environment (https_proxy=http://proxy.example.com:3128)"
_CA = (
    "put that authority's certificate, a company's proxy often has one of its own, into /usr/local/share/ca-certificates/NAME.crt "
    "and run `sudo update-ca-certificates`"
)


@dataclass(frozen=True)
class Cause:
    """What stood in the way, and the way out."""

    what: str
    hint: str


_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"Proxy Authentication Required|(?<![\d.])407(?![\d.])",
        "the proxy wants a login (407)",
        "write its address as http://NAME:PASSWORD@proxy.example.com:3128 (everybody on this host can read what stands in /etc/environment)",
    ),
    (
        r"(Tunnel connection failed|response from proxy|proxyconnect|tunnel error|unsuccessful tunnel|CONNECT)[^\n]*"
        r"(\b403\b|Forbidden|unsuccessful)|Get \"[^\"]+\": Forbidden",
        "the proxy does not allow that address (403 from the proxy)",
        "have it allowed there, or name a mirror that you may use",
    ),
    (
        r"UnknownIssuer|unknown authority|issuer is unknown|unable to get (local )?issuer certificate|self[- ]signed certificate|"
        r"certificate is NOT trusted",
        "its certificate is signed by an authority that this host does not know",
        _CA,
    ),
    (
        r"certificate (has )?expired|invalid peer certificate: (Expired|NotValidYet)|not yet valid|not valid yet|is expired",
        "its certificate or signature is expired or not valid yet",
        "check this host's clock (`date`); if it is right, tell whoever runs that server",
    ),
    (
        r"NotValidForName|[Hh]ostname mismatch|doesn't match|certificate is valid for|name in the certificate does not match",
        "the server that answered has a certificate for another name",
        "a proxy's login page or a wrong address: check the proxy settings and the address",
    ),
    (
        r"failure resolving|[Cc]ould not resolve|Name or service not known|failure in name resolution|dns error|failed to lookup address|"
        r"no such host|No address associated|server misbehaving|NameResolutionError|Failed to resolve",
        "no DNS: its name cannot be resolved here",
        f"check /etc/resolv.conf (`getent hosts NAME`); where only a proxy reaches out, {_PROXY}",
    ),
    (
        r"Network is unreachable|No route to host|network is unreachable|no route to host",
        "there is no route to it from here",
        f"check this host's network (`ip route`); where only a proxy reaches out, {_PROXY}",
    ),
    (
        r"[Cc]onnection refused",
        "the connection was refused: nothing listens there, or a firewall answers so",
        "check the address and port, of the proxy too if one is set",
    ),
    (r"[Cc]onnection reset|reset by peer|broken pipe", "the connection was cut", f"run the same command again; if it stays so, {_PROXY}"),
    (
        r"timed? ?out|deadline has elapsed|i/o timeout",
        "no answer came in time",
        f"a firewall may drop it silently; where only a proxy reaches out, {_PROXY}",
    ),
    (
        r"(?<![\d.])403(?![\d.])|HTTP status client error \(403",
        "access is refused (403; a company's proxy or mirror often answers so)",
        "have it allowed there, or name a mirror that you may use",
    ),
    (r"No space left on device|os error 28", "the disk is full", "free some space (`df -h`), then run the same command again"),
)


def explain(text: str) -> Cause | None:
    """Why a download failed, from what the program said; None where that is something else."""
    return next((Cause(what, hint) for pattern, what, hint in _CAUSES if re.search(pattern, text)), None)


def without_login(url: str) -> str:
    """An address as it may be shown: no name, no password."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return url if "@" not in parts.netloc else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def parse_environment(text: str) -> dict[str, str]:
    """The proxy settings of /etc/environment, by their names in small letters."""
    pairs = (line.strip().removeprefix("export ").partition("=") for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = {name.strip().lower(): value.strip().strip("\"'") for name, _, value in pairs}
    return {name: value for name, value in found.items() if name in PROXIES and value}


def inherited(host: Host, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Proxy settings of /etc/environment that this process has not: sudo drops them, a service never gets them."""
    has = {name.lower() for name, value in environ.items() if value}
    settings = parse_environment((host.read("/etc/environment") or b"").decode(errors="replace"))
    # A proxy of one's own in the shell, and the exceptions of another: only both together are one setting.
    return {} if has & set(PROXIES[:3]) else settings


def settings(host: Host, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Where this host says how to reach the network, for a person who looks for the reason: a line each, no password."""
    rows = [f"{name} = {without_login(environ[name])}" for name in sorted(environ) if name.lower() in PROXIES[:3] and environ[name]]
    rows = [f"the environment has {row}" for row in rows]
    used = inherited(host, environ)
    rows += [f"/etc/environment has {name} = {without_login(value)} (used)" for name, value in used.items() if name != "no_proxy"]
    have = {name.lower() for name in environ} | set(used)
    rows += [
        f"your shell has {name} = {without_login(value)}, and sudo drops it: sudo {name}=... mlflow-onprem ..., or put it into /etc/environment"
        for name, value in _dropped(host).items()
        if name.lower() not in have
    ]
    try:
        dump = host.run(["apt-config", "dump"]).out
    except CommandFailed:
        dump = ""
    rows += [
        f'apt has {name} "{without_login(value)}" (used by apt alone)'
        for name, value in re.findall(r'^(Acquire::https?::(?:[\w.-]+::)?Proxy(?:-Auto-Detect)?) "([^"]+)"', dump, re.MULTILINE)
    ]
    return rows


def _dropped(host: Host) -> dict[str, str]:
    """The proxy settings of whoever called sudo: the sudo above us still has them."""
    pid = str(os.getpid())
    while pid not in ("0", "1", ""):
        if (host.read(f"/proc/{pid}/comm") or b"").strip() == b"sudo":
            rows = (host.read(f"/proc/{pid}/environ") or b"").decode(errors="replace").split("\0")
            pairs = [row.partition("=")[::2] for row in rows]
            return {name: value for name, value in pairs if name.lower() in PROXIES[:3] and value}
        stat = (host.read(f"/proc/{pid}/stat") or b"").decode(errors="replace").rpartition(")")[2].split()
        pid = stat[1] if len(stat) > 1 else ""
    return {}
