"""This host's addresses, and where clients reach it: what they show from elsewhere, not what it calls itself."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.settings import public_names
from mlflow_onprem.settings.config import Config
from mlflow_onprem.system import host_addresses

if TYPE_CHECKING:
    from mlflow_onprem.settings.facts import Facts

ANSWER = 3.0  # seconds for a name server


def store_address(facts: Facts) -> str:
    """Where clients reach the object store of this host, ready for a URL."""
    return _bracketed(_best(facts.names, six=True) or facts.names[0])


def tracking_uri(host: Host, config: Config, facts: Facts) -> str:
    """The address clients use: the first name of `hosts`, the address of `bind`, this host's name where DNS leads it here, its address."""
    settings = config.mlflow
    entry = next((each for each in settings.hosts if not each.startswith("*")), None)
    if entry is None and not ipaddress.ip_address(settings.bind).is_unspecified:
        entry = settings.bind
    if entry is None:
        entry = _known_to_dns(host, facts.names) or _best(facts.names, six=settings.bind == "::") or facts.names[0]
    return public_names.url(entry, settings.port)


def remarks(config: Config, facts: Facts) -> list[str]:
    """What keeps clients on other machines from that address."""
    settings = config.mlflow
    if settings.hosts:
        return []
    if ipaddress.ip_address(settings.bind).is_loopback:
        return [
            f"only this host reaches that address: [mlflow] bind is {settings.bind}; the name of a reverse proxy before it belongs into hosts there"
        ]
    if settings.bind == "0.0.0.0" and _best(facts.names, six=False) is None and _best(facts.names, six=True):  # noqa: S104  # compared, not bound
        return ['this host has IPv6 addresses only: set bind = "::" in [mlflow] of /etc/mlflow-onprem/config.toml, then sudo mlflow-onprem install']
    return []


def client_names(config: Config) -> tuple[str, ...]:
    """Names that clients may use and that MLflow must answer to: those of the configuration and this host's own."""
    try:
        own = [public_names.host(socket.gethostname())]
    except ValueError:  # no name that a URL could hold
        own = []
    return tuple(dict.fromkeys((*(each for each in config.mlflow.hosts if not each.startswith("*")), *own)))


def _known_to_dns(host: Host, names: Iterable[str]) -> str | None:
    """The first full name that a name server, not /etc/hosts here, leads to an address of this host."""
    for name in [each for each in names if "." in each and not is_address(each) and not each.endswith((".local", ".localdomain"))][:2]:
        try:
            answer = host.run(["getent", "-s", "dns", "ahosts", name], ok=range(256), timeout=ANSWER).out
        except OnPremError:
            return None
        found = {line.split()[0] for line in answer.splitlines() if line.split()}
        if any(not ipaddress.ip_address(each.partition("%")[0]).is_loopback and host_addresses.has(each) for each in found):
            return name.lower()
    return None


def _best(names: Iterable[str], *, six: bool) -> str | None:
    """The first address of version 4, otherwise, with `six`, of version 6."""
    found = [each for each in names if is_address(each)]
    return next((each for each in found if ":" not in each), found[0] if found and six else None)


def is_address(text: str) -> bool:
    """An IP address, of either version."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
