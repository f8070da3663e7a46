"""Programs that fetch from the network: given what they need to reach it, ended when nothing comes any more, tried again, and explained.

apt can wait for ever for a server that fell silent, whatever its own time limits say; so progress is measured from outside (children.py).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence

from mlflow_onprem.core.errors import CommandFailed, Stalled, in_words
from mlflow_onprem.core.host import Host, Result
from mlflow_onprem.system import network
from mlflow_onprem.system.index_settings import for_pip, for_uv

#: How long a download may stand still, in seconds; MLFLOW_ONPREM_STALL_SECONDS in the environment is another.
STALL = 120.0
TRIES = 2


def run(
    host: Host,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = 1800,
    hint: str = "",
    tied: bool = False,
    stdin: str | None = None,
    names: Iterable[str] = (),
    tries: int = TRIES,
    again: Callable[[], None] = lambda: None,
) -> Result:
    """Run a program that does nothing but fetch: once more where nothing came for two minutes.

    `names`: servers it may talk to, by which a silent one is called. `again` clears up before the second try. `timeout` is in seconds, of each try.
    Raises CommandFailed (Stalled at the last standstill) with the cause in plain words.
    """
    limit = stall_seconds()
    for attempt in range(1, tries + 1):
        try:
            return host.run(argv, env={**variables(host), **(env or {})}, timeout=timeout, hint=hint, tied=tied, stdin=stdin, stall=limit)
        except Stalled as failed:
            silent = ", ".join(named(failed.peers, names))
            whom = f"it waited for {silent}" if silent else "it had no connection"
            if attempt == tries:
                failed.message = f"{failed.message}{f', {tries} times' if tries > 1 else ''}; {whom}"
                failed.hint = _hint(
                    host,
                    "that server accepts connections and then sends nothing, or something on the way swallows it: try later, or name a mirror",
                    hint,
                )
                raise
            host.say(f"nothing came for {in_words(limit)} ({whom}); trying again")
            again()
        except CommandFailed as failed:
            raise explained(host, failed) from failed
    raise AssertionError("not reached")


def explained(host: Host, failed: CommandFailed) -> CommandFailed:
    """The same failure with its cause in plain words, and with what this host says about proxies, where the network is the cause."""
    cause = network.explain(failed.output)
    if cause is None:
        return failed
    told = CommandFailed(failed.command, failed.code, failed.output, _hint(host, cause.hint, failed.hint))
    told.message = f"{failed.message}: {cause.what}"
    told.args = (told.message,)
    return told


def _hint(host: Host, *parts: str) -> str:
    return "; ".join((*filter(None, parts), *network.settings(host)))


def stall_seconds() -> float:
    """How long a download may stand still here."""
    text = os.environ.get("MLFLOW_ONPREM_STALL_SECONDS", "")
    return float(text) if re.fullmatch(r"[1-9]\d{0,4}", text) else STALL


def variables(host: Host) -> dict[str, str]:
    """What a program needs in its environment to reach the network as this host means it to: its proxy, authorities and indexes."""
    # uv carries a list of authorities of its own, and a company's is not on it.
    certificates = {} if os.environ.get("UV_SYSTEM_CERTS") else {"UV_SYSTEM_CERTS": "true"}
    environ = {**os.environ, **network.inherited(host)}
    return {**network.inherited(host), **certificates, **for_pip(host.read, environ), **for_uv(host.read, environ)}


def named(peers: Iterable[str], names: Iterable[str]) -> list[str]:
    """Addresses by the names of the servers they belong to, as far as they are among `names`."""
    known: dict[str, str] = {}
    for name in names:
        try:
            known |= {str(row[4][0]): name for row in socket.getaddrinfo(name, None)}
        except OSError:
            continue
    shown = []
    for peer in peers:
        owner = known.get(peer.rpartition(":")[0].strip("[]"))
        shown.append(f"{owner} ({peer})" if owner and owner not in peer else peer)
    return shown
