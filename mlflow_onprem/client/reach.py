"""From here to a server over the network: name, port, certificate, one answer. What fails says so in plain words."""

from __future__ import annotations

import base64
import contextlib
import errno
import ipaddress
import json
import socket
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from mlflow_onprem.client.client import Client

TIMEOUT = 5.0  # seconds for a connection
ANSWER = 15.0  # seconds for an answer


class Unreachable(Exception):
    """A step failed: which, why, and what to do. Never reaches a person as an error: it becomes a finding."""

    def __init__(self, what: str, text: str, hint: str) -> None:
        super().__init__(text)
        self.what, self.text, self.hint = what, text, hint


@dataclass(frozen=True)
class Answer:
    """One answer of HTTP; `text` is cut after 64 KiB."""

    status: int
    text: str
    server: str
    location: str

    def json(self) -> dict[str, Any]:
        """The answer's object, empty where it is none."""
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def connect(parts: SplitResult, verify: str | bool) -> Iterator[tuple[str, str]]:
    """Resolve the name, open the port, check the certificate: yields what was proven, step by step. Raises Unreachable."""
    name, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    addresses = _resolve(name, port)
    if not _is_address(name):
        yield "name", f"{name} is {', '.join(addresses)}"
    with _open(name, port, addresses) as connection:
        yield "port", f"port {port} is open"
        if parts.scheme == "https":
            _handshake(connection, name, verify)
            yield "certificate", "the certificate is right" if verify else "the certificate is not checked (MLFLOW_TRACKING_INSECURE_TLS)"


def get(client: Client, path: str, *, account: bool = False) -> Answer:
    """One GET as the client would send it, through its proxy if it has one. Raises Unreachable."""
    import requests
    import urllib3

    user = client.netrc or (client.username, client.password)
    headers = {}
    if account and user[0] and user[1]:
        headers["Authorization"] = f"Basic {base64.b64encode(f'{user[0]}:{user[1].reveal()}'.encode()).decode()}"
    try:
        with requests.Session() as session, warnings.catch_warnings():
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
            session.trust_env = False
            url, proxies = client.uri.rstrip("/") + path, {urlsplit(client.uri).scheme: client.proxy} if client.proxy else {}
            with session.get(
                url, headers=headers, timeout=(TIMEOUT, ANSWER), verify=client.verify, proxies=proxies, allow_redirects=False, stream=True
            ) as answer:
                text = answer.raw.read(1 << 16, decode_content=True).decode(errors="replace")
                return Answer(answer.status_code, text, answer.headers.get("Server", ""), answer.headers.get("Location", ""))
    except requests.exceptions.ProxyError:
        raise Unreachable("proxy", "the proxy does not let it through, or cannot be reached", "") from None
    except requests.Timeout:
        text = f"the connection stands, and no answer came within {ANSWER:.0f} s"
        raise Unreachable("server", text, "on the server: mlflow-onprem status; in between: a firewall or proxy that swallows answers") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError):
        raise _no_http(client) from None


def masked(proxy: str) -> str:
    """A proxy's address without the account in it."""
    return proxy.rpartition("@")[2] if "@" in proxy else proxy


def _resolve(name: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as failed:
        again = isinstance(failed, socket.gaierror) and failed.errno == socket.EAI_AGAIN
        text = f"no name server answered when asked for {name}" if again else f"the name {name} is not known here"
        hint = "is it spelled right? Ask for the name in DNS, write it into /etc/hosts, or use the server's address instead"
        raise Unreachable("name", text, "this machine's name server (/etc/resolv.conf) cannot be reached" if again else hint) from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def _open(name: str, port: int, addresses: list[str]) -> socket.socket:
    try:
        return socket.create_connection((name, port), timeout=TIMEOUT)
    except ConnectionRefusedError:
        here = all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in addresses)
        text = f"port {port} of {name} is closed: the machine is there, and nothing listens"
        hint = (
            "that is this machine itself: name the server"
            if here
            else "on the server: mlflow-onprem status; [mlflow] bind must not be 127.0.0.1; is the port right?"
        )
        raise Unreachable("port", text, hint) from None
    except TimeoutError:
        text = f"port {port} of {name} does not answer within {TIMEOUT:.0f} s: a firewall drops it, or the machine is off"
        raise Unreachable("port", text, f"have TCP port {port} opened from here to {', '.join(addresses)}; is the address right?") from None
    except OSError as failed:
        reasons = {
            errno.EHOSTUNREACH: "that machine cannot be reached: it is off, or a firewall rejects",
            errno.ENETUNREACH: "there is no way from here into that network",
            errno.EACCES: "this machine's own firewall forbids it",
        }
        text = f"{', '.join(addresses)}: {reasons.get(failed.errno or 0, failed.strerror or 'no connection')}"
        raise Unreachable("port", text, f"`ip route get {addresses[0]}` shows the way it takes; is the address right, is the VPN up?") from None


def _handshake(connection: socket.socket, name: str, verify: str | bool) -> None:
    # requests, and so MLflow's client, trusts certifi's list, not the operating system's.
    import certifi

    bundle = verify if isinstance(verify, str) else certifi.where()
    try:
        context = ssl.create_default_context(cafile=bundle)
    except OSError:
        raise Unreachable(
            "certificate", f"the file of certificates {bundle} cannot be read", "it is named by REQUESTS_CA_BUNDLE or the like"
        ) from None
    if verify is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.wrap_socket(connection, server_hostname=name).close()
    except ssl.SSLCertVerificationError as wrong:
        raise _certificate(name, wrong.verify_code, wrong.verify_message) from None
    except ssl.SSLError as wrong:
        if wrong.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            raise Unreachable("certificate", "the server speaks plain HTTP on this port", "write http:// in MLFLOW_TRACKING_URI") from None
        raise Unreachable("certificate", f"no TLS connection comes about ({wrong.reason})", "on the server: mlflow-onprem doctor") from None
    except OSError:
        raise Unreachable("certificate", "the server breaks the TLS connection off", "does it speak plain HTTP? then write http://") from None


def _certificate(name: str, code: int, message: str) -> Unreachable:
    """OpenSSL's X509_V_ERR codes: 10 expired, 9 not yet valid, 62 and 64 another name; the rest: nobody we trust signed it."""
    if code in (9, 10):
        return Unreachable(
            "certificate",
            f"the certificate of {name} is out of date ({message})",
            "is this machine's clock right? otherwise: a new one on the server",
        )
    if code in (62, 64):
        return Unreachable("certificate", f"the certificate is not made for {name}", "use the name it is made for, or have one made for this one")
    text = f"the certificate of {name} is signed by nobody this client trusts ({message})"
    return Unreachable(
        "certificate", text, "fetch the company's CA certificate and set REQUESTS_CA_BUNDLE=/path/to/ca.pem (MLflow's client reads it)"
    )


def _no_http(client: Client) -> Unreachable:
    parts = urlsplit(client.uri)
    if parts.scheme == "http" and not client.proxy:
        with contextlib.suppress(Unreachable, OSError):
            name, port = parts.hostname or "", parts.port or 80
            with _open(name, port, _resolve(name, port)) as connection:
                _handshake(connection, name, False)
            return Unreachable("server", "the server speaks TLS on this port", "write https:// in MLFLOW_TRACKING_URI")
    return Unreachable("server", "the connection breaks off before an answer: what listens there does not speak HTTP", "is the port right?")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
