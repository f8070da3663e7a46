"""What the administrator of this machine set up for reaching packages, and every sandbox on it needs as well.

Mirrors, proxies, certificates and indexes are read from the machine each time and written nowhere but into sandboxes.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.system.local_host import PASSED_ON, LocalHost

#: Releases that know each other's mirrors: one archive serves them all.
FAMILIES = {
    "debian": ("bullseye", "bookworm", "trixie", "forky"),
    "ubuntu": ("focal", "jammy", "noble", "questing", "resolute"),
}
COMPONENTS = {"debian": ("main",), "ubuntu": ("main", "universe")}
UBUNTU = "http://archive.ubuntu.com/ubuntu"
KEYRINGS = {"debian": "/usr/share/keyrings/debian-archive-keyring.gpg", "ubuntu": "/usr/share/keyrings/ubuntu-archive-keyring.gpg"}
#: Where the sandbox keeps the machine's authorities, whatever the file is called here.
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
#: Where uv's downloads of all sandboxes are shown inside, for hosts that share them.
UV_CACHE = "/var/cache/shared/uv"
_BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
_ONLY_HERE = ("TMPDIR", "UV_CACHE_DIR", "UV_OFFLINE", "GOFLAGS")
_ALSO = ("PIP_DEFAULT_TIMEOUT", "PIP_TRUSTED_HOST", "UV_INDEX", "UV_INSECURE_HOST", "UV_HTTP_TIMEOUT")
_FIND_LINKS = ("PIP_FIND_LINKS", "UV_FIND_LINKS")
_APT = re.compile(r"^Acquire::(https?::|Check-|Retries|ForceIPv)", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
#: Where pip and uv are configured here, and where that goes inside.
_CONFIGURED = {
    "/etc/pip.conf": "/etc/pip.conf",
    "~/.config/pip/pip.conf": "/root/.config/pip/pip.conf",
    "~/.pip/pip.conf": "/root/.config/pip/pip.conf",
    "/etc/uv/uv.toml": "/etc/uv/uv.toml",
    "~/.config/uv/uv.toml": "/root/.config/uv/uv.toml",
}


@dataclass(frozen=True)
class Source:
    """One archive apt is told of."""

    uri: str
    suite: str
    components: tuple[str, ...]


def family(release: str) -> str:
    """Debian or Ubuntu. Raises Refused for a release we do not know."""
    for name, releases in FAMILIES.items():
        if release in releases:
            return name
    raise Refused(f"there is no sandbox of {release}", "choose one of bookworm, trixie, jammy, noble")


def parse_list(text: str) -> list[Source]:
    """The one-line format of sources.list."""
    found = []
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", "", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            found.append(Source(words[1], words[2], tuple(words[3:])))
    return found


def parse_deb822(text: str) -> list[Source]:
    """The stanza format of *.sources."""
    found = []
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        key = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                fields[key] = f"{fields.get(key, '')} {line.strip()}"
            elif ":" in line:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() not in ("no", "false", "0"):
            found += [
                Source(uri, suite, tuple(fields.get("components", "").split()))
                for uri in fields.get("uris", "").split()
                for suite in fields.get("suites", "").split()
            ]
    return found


def apt_lines(sources: Sequence[Source], release: str, mirror: str | None = None) -> list[str]:
    """What apt inside is told: this machine's own archives with the release exchanged, or the mirror named. Empty: nothing known here."""
    kind = family(release)
    wanted = COMPONENTS[kind]
    if kind == "ubuntu" and not mirror and not any(source.suite.partition("-")[0] in FAMILIES[kind] for source in sources):
        mirror = UBUNTU  # a Debian machine names none
    if mirror:
        return [f"deb {mirror} {suite} {' '.join(wanted)}" for suite in (release, f"{release}-updates")]
    lines: list[str] = []
    for source in sources:
        codename, _, pocket = source.suite.partition("-")
        components = [name for name in source.components if name in wanted]
        if codename not in FAMILIES[kind] or not components or pocket not in ("", "updates", "security"):
            continue
        line = f"deb {source.uri} {release}{'-' + pocket if pocket else ''} {' '.join(components)}"
        if line not in lines:
            lines.append(line)
    return lines


def authorities(text: str) -> list[str]:
    """The certificates of a PEM bundle."""
    return [match.replace("\r\n", "\n") for match in _PEM.findall(text)]


def carried(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables a program inside needs to reach what programs here reach."""
    found = {name: environ[name] for name in (*PASSED_ON, *_ALSO) if environ.get(name) and name not in _ONLY_HERE}
    return {
        **found,
        **{name: BUNDLE for name in _BUNDLES if name in found},
        **({"SSL_CERT_DIR": "/etc/ssl/certs"} if "SSL_CERT_DIR" in found else {}),
    }


def local_links(environ: Mapping[str, str]) -> list[str]:
    """Folders of wheels that pip or uv are pointed at; they are shown inside at the same place, read-only."""
    words = [word for name in _FIND_LINKS for word in re.split(r"[\s,]+", environ.get(name, "")) if word.startswith("/")]
    return sorted(set(words))


def resolvers(texts: Iterable[str]) -> str:
    """The first of these resolv.conf files that works from another network namespace: a server on loopback does not."""
    for text in texts:
        kept = [line for line in text.splitlines() if line.split()[:1] in (["search"], ["options"], ["domain"])]
        servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver") and len(line.split()) > 1]
        usable = [server for server in servers if not ipaddress.ip_address(server.partition("%")[0]).is_loopback]
        if usable:
            return "\n".join([*kept, *(f"nameserver {server}" for server in usable)]) + "\n"
    raise Refused(
        "this machine asks a name server on loopback, which a sandbox cannot reach",
        "name one that other hosts can reach in /etc/resolv.conf",
    )


def read_sources(host: LocalHost) -> list[Source]:
    """What apt of this machine is told."""
    found = parse_list(_text(host, "/etc/apt/sources.list"))
    for name in host.listdir("/etc/apt/sources.list.d"):
        text = _text(host, f"/etc/apt/sources.list.d/{name}")
        found += parse_deb822(text) if name.endswith(".sources") else parse_list(text) if name.endswith(".list") else []
    return found


def read_apt_settings(host: LocalHost) -> list[str]:
    """Proxies and the like: those of apt's settings that decide whether a download works."""
    return [line for line in host.run(["apt-config", "dump"]).out.splitlines() if _APT.match(line) and '""' not in line]


def read_authorities(host: LocalHost) -> list[str]:
    """Every authority that programs here trust."""
    return authorities(_text(host, os.environ.get("SSL_CERT_FILE", BUNDLE)) or _text(host, BUNDLE))


def read_resolvers(host: LocalHost) -> str:
    """The resolv.conf for a sandbox."""
    return resolvers(_text(host, path) for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"))


def read_configured(host: LocalHost) -> dict[str, bytes]:
    """The files that configure pip and uv, by their path inside, their certificate pointed at the sandbox's bundle."""
    found = {}
    for here, inside in _CONFIGURED.items():
        text = _text(host, here.replace("~", os.environ.get("HOME", "/root"), 1))
        if text:
            found[inside] = re.sub(r"(?m)^(\s*cert\s*=).*$", rf"\1 {BUNDLE}", text).encode()
    return found


def _text(host: LocalHost, path: str) -> str:
    content = host.read(path) if path.startswith("/") else None
    return "" if content is None else content.decode(errors="replace")


def require_root(host: LocalHost) -> None:
    """Sandboxes need namespaces and mounts. Raises OnPremError for anyone but root."""
    if not host.is_root:
        raise OnPremError("a sandbox needs root: it mounts, and makes network namespaces", "run it with sudo")
