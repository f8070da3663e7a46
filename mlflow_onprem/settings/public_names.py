"""Names that clients and web pages use, as the configuration writes them: `hosts` and `origins` of [mlflow]."""

from __future__ import annotations

import ipaddress
import re

#: Ports that no client writes.
DEFAULT_PORTS = {"http": 80, "https": 443}
EXAMPLES = "such as mlflow.example.com, mlflow.example.com:8443 or *.example.com"


def host(text: str) -> str:
    """One of `hosts`, lower case as in DNS: a name or an address, with a port where it counts on that alone, or *.suffix. Raises ValueError."""
    text = text.strip()
    if "://" in text:
        raise ValueError(f"must be a host name without http:// before it, {EXAMPLES}")
    if _is_network(text):
        raise ValueError("is a range of addresses: leave it out, MLflow answers to every address of this host without being told")
    if text.startswith("."):
        raise ValueError(f"must be *{text} for every name that ends in {text}")
    if _is_six(text):
        return str(ipaddress.ip_address(text))
    name, port = _split(text)
    suffix = "*." if name.startswith("*.") else ""
    name = name.removeprefix("*.").rstrip(".")
    if name.startswith("["):
        name = f"[{ipaddress.IPv6Address(name[1:-1])}]"
    elif not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", name := _as_dns_writes(name)) or ".." in name:
        raise ValueError(f"must be a host name or address without path or other wildcard, {EXAMPLES}")
    return f"{suffix}{name}{port}"


def origin(text: str) -> str:
    """One of `origins`: https://host, https://host:port or https://*.suffix. Raises ValueError."""
    scheme, separator, rest = text.strip().rstrip("/").partition("://")
    if not separator or scheme.lower() not in DEFAULT_PORTS or "/" in rest:
        raise ValueError("must be the site as a browser shows it, without a path, such as https://app.example.com")
    return f"{scheme.lower()}://{host(f'[{rest}]' if _is_six(rest) else rest)}"


def receiver(text: str) -> str:
    """One of `webhook_hosts`: a name or address, with its port if it has one, and http:// before it where that is asked for. Raises ValueError."""
    scheme, separator, rest = text.strip().rstrip("/").rpartition("://")
    scheme = scheme.lower()
    if (separator and scheme not in DEFAULT_PORTS) or "/" in rest or "*" in rest:
        raise ValueError("must be one receiver without a path, such as chat.example.com, chat.example.com:8443 or http://10.0.0.5:8080")
    name = host(rest)
    return f"{scheme}://{f'[{name}]' if _is_six(name) else name}" if separator else f"[{name}]" if _is_six(name) else name


def url(entry: str, port: int) -> str:
    """Where a client reaches the server by one of `hosts` (no suffix): on the port that it names, otherwise on ours. Port 443 is https."""
    name, given = (f"[{entry}]", "") if _is_six(entry) else _split(entry)
    scheme = "https" if given == ":443" else "http"
    return f"{scheme}://{name}{'' if given in (':80', ':443') else given or f':{port}'}"


def _split(text: str) -> tuple[str, str]:
    """Name and ":port", empty where there is none. Raises ValueError."""
    found = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(:\d{1,5})?", text)
    if found is None or (found[2] and not 1 <= int(found[2][1:]) <= 65535):
        raise ValueError(f"must be a host name or address, with a port if it has one, {EXAMPLES}")
    return found[1], f":{int(found[2][1:])}" if found[2] else ""


def _as_dns_writes(name: str) -> str:
    """Lower case; münchen.example is xn--mnchen-3ya.example there and in every Host header. Raises ValueError."""
    if name.isascii():
        return name.lower()
    import idna

    try:
        return idna.encode(name, uts46=True).decode()
    except idna.IDNAError:
        raise ValueError("is not an international domain name") from None


def _is_six(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text
