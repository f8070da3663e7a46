"""Whether a client reaches MLflow as its environment says, asked from the client's side: step by step, in the words of whoever has to fix it.

Needs nothing of the stack on this machine.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from mlflow_onprem.client import reach
from mlflow_onprem.client.client import Client
from mlflow_onprem.client.env import FILL_IN
from mlflow_onprem.client.reach import Answer, Unreachable
from mlflow_onprem.client.version import compare
from mlflow_onprem.core.finding import Finding, error, ok, warning
from mlflow_onprem.core.secret import Secret

INVALID_HOST = "Invalid Host header"
#: Not visible to the server: the client's request is about the other name already.
NAMES = (
    "keep # ? and % out of artifacts' names: MLflow's client sends them as they are, so that a#1.txt and a#2.txt both become a, "
    "and the second overwrites the first"
)


@dataclass(frozen=True)
class Checked:
    """All steps, up to the first that failed."""

    uri: str
    findings: tuple[Finding, ...]
    server: str = ""

    @property
    def healthy(self) -> bool:
        """No step failed; warnings do not count."""
        return all(each.level != "error" for each in self.findings)


def read_client(environ: Mapping[str, str], home: Path) -> Client:
    """The settings of this environment, with what MLflow's own file and a .netrc add, as MLflow's client reads them."""
    from requests.utils import get_environ_proxies, get_netrc_auth, select_proxy

    uri = environ.get("MLFLOW_TRACKING_URI", "").strip()
    stored = _stored_account(home / ".mlflow/credentials")
    bundle = next((environ[name] for name in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if environ.get(name)), None)
    insecure = environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1")
    web = _parts(uri) is not None
    found = get_netrc_auth(uri) if web else None
    return Client(
        uri,
        environ.get("MLFLOW_TRACKING_USERNAME") or stored[0],
        Secret(environ.get("MLFLOW_TRACKING_PASSWORD") or stored[1]),
        bool(environ.get("MLFLOW_TRACKING_TOKEN")),
        False if insecure else bundle or True,
        (select_proxy(uri, get_environ_proxies(uri, no_proxy=None)) or "") if web else "",
        (found[0], Secret(found[1])) if found else None,
        environ.get("MLFLOW_S3_ENDPOINT_URL", ""),
    )


def check(client: Client, installed: str | None) -> Checked:
    """Go the way a client goes. `installed`: the client's version of MLflow, None where there is none."""
    findings: list[Finding] = []
    parts = _address(client, findings)
    if parts is None or not _server(client, parts, findings):
        return Checked(client.uri, tuple(findings))
    version = reach.get(client, "/version").text.strip()
    findings.append(ok("server", f"MLflow {version} answers"))
    if _host_header(client, parts, findings) and _account(client, findings):
        _store(client, findings)
        if not client.store:
            findings.append(ok("names", NAMES))
    level, text, hint = compare(installed, version)
    findings.append(Finding("version", level, text, fix=hint))
    return Checked(client.uri, tuple(findings), version)


def _address(client: Client, findings: list[Finding]) -> SplitResult | None:
    parts = _parts(client.uri)
    if parts is None:
        text = f"MLFLOW_TRACKING_URI is {client.uri!r}, and not http(s)://host:port" if client.uri else "MLFLOW_TRACKING_URI is not set"
        findings.append(
            error("address", f"{text}: a client keeps its runs on its own disk", fix="`mlflow-onprem client-env` on the server prints it")
        )
        return None
    if FILL_IN in (client.username, client.password.reveal()):
        findings.append(error("account", f"{FILL_IN} still stands where the account or its password belongs", fix="fill it in, then run this again"))
        return None
    return parts


def _parts(uri: str) -> SplitResult | None:
    """Scheme, name and port; None for what is not http(s)://host:port."""
    try:
        parts = urlsplit(uri)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    return parts if usable else None


def _server(client: Client, parts: SplitResult, findings: list[Finding]) -> bool:
    """Name, port, certificate, and that what answers is MLflow."""
    name = parts.hostname or ""
    if client.proxy and not _through_proxy(client, name, findings):
        return False
    if not client.proxy:
        try:
            findings += [ok(what, text) for what, text in reach.connect(parts, client.verify)]
        except Unreachable as failed:
            findings.append(error(failed.what, failed.text, fix=failed.hint))
            return False
    try:
        health, version = reach.get(client, "/health"), reach.get(client, "/version")
    except Unreachable as failed:
        findings.append(error(failed.what, failed.text, fix=failed.hint))
        return False
    if version.status == 200 and version.text[:1].isdigit() and health.text.strip() == "OK":
        return True
    findings.append(_not_mlflow(client, health))
    return False


def _not_mlflow(client: Client, answer: Answer) -> Finding:
    if answer.status in (301, 302, 307, 308):
        return error("server", f"{client.uri} sends on to {answer.location}", fix="set MLFLOW_TRACKING_URI to that address")
    if answer.status in (502, 503, 504):
        text = f"what stands before MLflow answers HTTP {answer.status}: MLflow itself is down or starting"
        return error("server", text, fix="on the server: mlflow-onprem status")
    if answer.text.startswith(INVALID_HOST):
        return _invalid_host(urlsplit(client.uri).hostname or "")
    who = f" ({answer.server})" if answer.server else ""
    text = f"something else than MLflow answers at {client.uri}{who}: HTTP {answer.status}"
    return error("server", text, fix="is the port right? on the server, `mlflow-onprem client-env` prints the address")


def _through_proxy(client: Client, name: str, findings: list[Finding]) -> bool:
    shown = reach.masked(client.proxy)
    fix = f"if this network reaches {name} itself: export no_proxy={name},$no_proxy NO_PROXY={name},$NO_PROXY"
    try:
        answer = reach.get(client, "/version")
    except Unreachable as failed:
        findings.append(error("proxy", f"this environment sends requests through the proxy {shown}, and that fails: {failed.text}", fix=fix))
        return False
    if answer.status != 200 or not answer.text[:1].isdigit():
        text = f"the proxy {shown} stands in the way and answers HTTP {answer.status} instead of MLflow"
        findings.append(error("proxy", text, fix=fix))
        return False
    findings.append(ok("proxy", f"through the proxy {shown}"))
    return True


def _host_header(client: Client, parts: SplitResult, findings: list[Finding]) -> bool:
    if reach.get(client, "/api/3.0/mlflow/server-info").text.startswith(INVALID_HOST):
        findings.append(_invalid_host(parts.hostname or ""))
        return False
    return True


def _invalid_host(name: str) -> Finding:
    text = f"MLflow refuses requests for the name {name}: it is none of those it serves under"
    hint = f'on the server: hosts = ["{name}"] in [mlflow] of /etc/mlflow-onprem/config.toml, then sudo mlflow-onprem install'
    return error("name", text, fix=hint)


def _account(client: Client, findings: list[Finding]) -> bool:
    """Who the server takes this client for, or why it does not let it in."""
    answer = reach.get(client, "/api/2.0/mlflow/users/current", account=True)
    if client.netrc is not None and client.netrc != (client.username, client.password):
        text = f"a .netrc file has the account {client.netrc[0]} for this server, and it goes before MLFLOW_TRACKING_USERNAME"
        findings.append(warning("netrc", text, fix="take that entry out of ~/.netrc, or point NETRC at an empty file"))
    if answer.status == 404:
        findings.append(warning("account", "the server has no accounts: whoever reaches it may do everything", fix="see [mlflow.auth] on the server"))
        return True
    if answer.status == 200:
        user: Mapping[str, Any] = answer.json().get("user", {})
        findings.append(ok("account", f"logged in as {user.get('username')}{', an administrator' if user.get('is_admin') else ''}"))
        return True
    findings.append(_refused(client, answer))
    return False


def _refused(client: Client, answer: Answer) -> Finding:
    if answer.status != 401:
        return error("account", f"the server answers HTTP {answer.status}: {answer.text[:200].strip()}", fix="on the server: mlflow-onprem logs")
    get_one = "ask an administrator for one: sudo mlflow-onprem user add NAME"
    if client.netrc is None and not (client.username and client.password):
        missing = [
            name for name, value in (("MLFLOW_TRACKING_USERNAME", client.username), ("MLFLOW_TRACKING_PASSWORD", client.password)) if not value
        ]
        token = "; MLFLOW_TRACKING_TOKEN is set, but this server knows accounts with passwords" if client.token else ""
        return error(
            "account",
            f"the server wants an account, and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set{token}",
            fix=get_one,
        )
    name = client.netrc[0] if client.netrc else client.username
    text = f"the server does not know the account {name} with this password"
    return error("account", text, fix=f"check both; an administrator sets a new one: sudo mlflow-onprem user passwd {name}")


def _store(client: Client, findings: list[Finding]) -> None:
    if not client.store:
        return
    from mlflow_onprem.stack.health import ProbeFailed, check_store

    try:
        check_store(client.store, minio=False)
        findings.append(ok("store", f"{client.store} speaks S3"))
    except ProbeFailed as failed:
        text = f"the object store at MLFLOW_S3_ENDPOINT_URL={client.store}: {failed}"
        findings.append(error("store", text, fix="artifacts go there straight from this machine: it must reach that address"))


def _stored_account(path: Path) -> tuple[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path)
        section = parser["mlflow"]
    except (configparser.Error, KeyError, OSError, UnicodeDecodeError):
        return "", ""
    return section.get("mlflow_tracking_username", ""), section.get("mlflow_tracking_password", "")
