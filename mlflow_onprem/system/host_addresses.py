"""This host's own addresses, as the kernel has them."""

from __future__ import annotations

import socket

from mlflow_onprem.core.host import Host

#: Addresses of the documentation's networks: nothing is sent to them, the kernel only says from which of ours it would be.
_FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def towards_the_network() -> list[str]:
    """The address of each IP version that this host uses to reach other networks; none where there is no way out."""
    found = []
    for family, far in _FAR:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue
    return found


def has(address: str) -> bool:
    """Whether a service can listen on this address here: it is one of this host's, or stands for all of them."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def of_host(host: Host) -> tuple[str, ...]:
    """All addresses but the link-local ones: first those that lead out, then the others in the order of the interfaces."""
    listed = host.run(["hostname", "-I"], ok=(0, 1)).out.split()
    first = [each for each in towards_the_network() if each in listed]
    return tuple(dict.fromkeys(each for each in (*first, *listed) if not each.lower().startswith("fe80")))
