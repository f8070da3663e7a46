"""Tell systemd how the service is doing (sd_notify), with nothing but a datagram socket."""

from __future__ import annotations

import os
import socket


def notify(*lines: str) -> None:
    """Send `lines` to systemd; without a notify socket, as in a terminal, do nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            # Nobody listens any more; the service itself is not affected.
            return
