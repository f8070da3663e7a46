"""The store's address for clients, where it is this host's own: it follows a change (DHCP), as it was worked out and not configured."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

# Addresses of the documentation's networks: nothing is sent to them, the kernel only says from which of ours it would be.
_FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def public_store_url(environ: Mapping[str, str]) -> str:
    """The URL to sign for: the one of the last install, with today's address in it where this host no longer has that one."""
    url = environ["ONPREM_PUBLIC_S3_URL"]
    parts = urlsplit(url)
    if environ.get("ONPREM_PUBLIC_S3_FOLLOWS") != "true" or _is_here(parts.hostname or ""):
        return url
    now = _towards_the_network()
    if now is None:
        return url
    return f"{parts.scheme}://{f'[{now}]' if ':' in now else now}:{parts.port}"


def _is_here(address: str) -> bool:
    """Whether this host has the address; a name is left as it is."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except socket.gaierror:
        return True
    except OSError:
        return False
    return True


def _towards_the_network() -> str | None:
    for family, far in _FAR:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return None
