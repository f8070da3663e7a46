"""Whether the three ports really serve: each probe demands an answer only the right service gives."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlflow_onprem.core import wait as wait_module
from mlflow_onprem.core.errors import Unhealthy
from mlflow_onprem.core.host import Host
from mlflow_onprem.settings import addresses, topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.topology import LocalPostgres, LocalStore
from mlflow_onprem.stack import disk_space
from mlflow_onprem.system import host_addresses
from mlflow_onprem.system.ports import foreign
from mlflow_onprem.system.systemd import Systemd, journal_tail

TIMEOUT = 5.0  # seconds, for one answer
PROTOCOL_3 = 3 << 16  # PostgreSQL's protocol, version 3.0
INVALID_HOST = b"Invalid Host header"
DEADLINE = 120.0  # seconds, for the stack to come up


@dataclass(frozen=True)
class Verdict:
    """One service: what systemd says (None for an external one), what its port proves, and how long the proof took.

    `fix` is there where more is known than that it is down.
    """

    name: str
    unit: str | None
    port: int
    active: bool | None
    healthy: bool
    detail: str
    latency_ms: float
    fix: str = ""


@dataclass(frozen=True)
class Probe:
    """How to ask one service. `check` returns what is proven, or raises ProbeFailed. It writes to `places`, the store to `objects`."""

    name: str
    unit: str | None
    port: int
    check: Callable[[], str]
    places: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()


class ProbeFailed(Exception):
    """The port did not prove itself; the text says why in plain words."""


def probes(config: Config, postgres_unit: str | None) -> tuple[Probe, ...]:
    """One probe for each of the three services, external ones included; `postgres_unit` is the local cluster's."""
    objects, sql = topology.store(config.minio), topology.postgres(config)
    local_store, local_sql = isinstance(objects, LocalStore), isinstance(sql, LocalPostgres)
    bind = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.mlflow.bind, config.mlflow.bind)  # noqa: S104  # compared, not bound
    mlflow = f"http://{f'[{bind}]' if ':' in bind else bind}:{config.mlflow.port}"
    store = urlsplit(objects.endpoint)
    store_port = store.port or (443 if store.scheme == "https" else 80)
    return (
        Probe(
            "minio",
            objects.units[0] if objects.units else None,
            store_port,
            lambda: check_store(objects.endpoint, minio=local_store),
            (),
            objects.folders,
        ),
        Probe("postgres", postgres_unit, sql.port, lambda: check_postgres(sql.host, sql.port), (disk_space.POSTGRES,) if local_sql else ()),
        Probe("mlflow", "mlflow.service", config.mlflow.port, lambda: _check_ours(config, mlflow), ("/var/lib/mlflow", "/var/tmp")),  # noqa: S108
    )


def check_store(endpoint: str, *, minio: bool) -> str:
    """The store is ready to read and write (its own readiness probe), or, for a foreign one, speaks S3."""
    if minio:
        status, server, _ = _get(f"{endpoint}/minio/health/cluster")
        if status != 200:
            raise ProbeFailed(f"answers HTTP {status} to its readiness probe: it cannot write now")
        if "minio" not in server.lower() and "silo" not in server.lower():
            raise ProbeFailed(f"something else answers on this port ({server or 'unnamed'})")
        return "ready to read and write"
    status, _, body = _get(endpoint)
    if b"<Error>" not in body and b"ListAllMyBucketsResult" not in body:
        raise ProbeFailed(f"answers HTTP {status}, and not as S3 does")
    return "speaks S3"


def check_postgres(address: str, port: int) -> str:
    """The server accepts connections: it answers a start-up message, which needs no account, as PostgreSQL's protocol says.

    libpq's own ping does the same, but a server that hangs would hold up the probes beside it, and its import takes longer than the question.
    """
    text = b"user\0mlflow_onprem_probe\0database\0postgres\0\0"
    message = struct.pack("!ii", 8 + len(text), PROTOCOL_3) + text
    try:
        with socket.create_connection((address, port), TIMEOUT) as connection:
            connection.settimeout(TIMEOUT)
            connection.sendall(message)
            answer = connection.recv(1024)
    except OSError:
        answer = b""
    if answer[:1] == b"E" and b"C57P03\0" in answer:
        raise ProbeFailed("is there and refuses connections: it is starting, stopping or recovering")
    if answer[:1] not in (b"R", b"E") or (answer[:1] == b"E" and b"\0C" not in answer):
        raise ProbeFailed("nothing answers on this port as PostgreSQL does")
    return "accepts connections"


def _check_ours(config: Config, url: str) -> str:
    try:
        return check_mlflow(url, addresses.client_names(config))
    except ProbeFailed as failed:
        if host_addresses.has(config.mlflow.bind):
            raise
        lost = f"[mlflow] bind is {config.mlflow.bind}, and this host does not have that address now"
        raise ProbeFailed(f"{failed}: {lost}; set bind to one that it has, or to 0.0.0.0, then sudo mlflow-onprem install") from None


def check_mlflow(url: str, names: Sequence[str] = ()) -> str:
    """MLflow's own health answer, its version, and that it answers to each of the names that clients use."""
    status, _, body = _get(f"{url}/health")
    if status != 200 or body.strip() != b"OK":
        raise ProbeFailed(f"answers HTTP {status} to /health, and not MLflow's OK")
    status, _, body = _get(f"{url}/version")
    text = body.decode(errors="replace").strip()
    if status != 200 or not text[:1].isdigit():
        raise ProbeFailed(f"answers HTTP {status} to /version, and not a version")
    # Health and version answer to every name; this one, which needs no account either, does not.
    for name in names:
        status, _, body = _get(f"{url}/api/3.0/mlflow/server-info", host=name)
        if status == 403 and body.startswith(INVALID_HOST):
            what = f"MLflow {text} runs, but refuses everybody who calls this server {name}"
            raise ProbeFailed(f"{what}: sudo mlflow-onprem install; if that changes nothing: sudo systemctl restart mlflow")
    return f"MLflow {text} serves"


def look(systemd: Systemd | None, asked: Sequence[Probe]) -> tuple[Verdict, ...]:
    """Ask all services at once."""
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        return tuple(pool.map(lambda probe: _ask(systemd, probe), asked))


def wait(host: Host, systemd: Systemd, asked: Sequence[Probe], deadline: float = DEADLINE) -> tuple[Verdict, ...]:
    """Ask until all are healthy. Raises Unhealthy after `deadline` seconds, with the journal of the first that is not."""
    seen: list[tuple[Verdict, ...]] = []

    def healthy() -> bool:
        systemd.forget()
        seen.append(look(systemd, asked))
        return all(each.healthy for each in seen[-1])

    if wait_module.until(healthy, deadline, every=0.2):
        return seen[-1]
    first = next(each for each in seen[-1] if not each.healthy)
    journal = journal_tail(host, first.unit) if first.unit else ""
    hint = f"`mlflow-onprem logs {first.name}` shows all of it" if first.unit else "that service is not ours: ask whoever runs it"
    raise Unhealthy(f"{first.name} on port {first.port} is not healthy after {deadline:.0f} s: {first.detail}", first.fix or hint, journal)


def _ask(systemd: Systemd | None, probe: Probe) -> Verdict:
    active = None
    state = fix = ""
    refused = False
    if systemd is not None and probe.unit is not None:
        status = systemd.status(probe.unit)
        refused = status.refused_to_start
        active, state = status.running, {"not-found": "not installed", "masked": "masked"}.get(status.load, status.active)
    started = time.monotonic()
    try:
        healthy, detail = True, probe.check()
    except ProbeFailed as failed:
        healthy, detail = False, str(failed)
    if active is False:
        reason = systemd.why_not_started(probe.unit) if systemd is not None and probe.unit is not None else None
        why = f"does not start: {reason.what} ({reason.name})" if reason is not None else f"its unit is {state}"
        fix = reason.fix if reason is not None else ""
        healthy, detail = False, why + (f"; the port {detail}" if healthy else "")
        if refused:
            detail += ": a folder or file that it needs is not there (is its disk mounted?); `sudo mlflow-onprem install` says which"
    if not healthy and systemd is not None and probe.unit is not None:
        held = sorted({str(each): each for each in foreign(systemd.host, probe.port, probe.unit, systemd.status(probe.unit).main_pid)}.items())
        if held:
            detail += f"; the port is held by {', '.join(name for name, _ in held)}"
            fix = fix or f"stop what holds the port ({', '.join(each.way_out for _, each in held)}), then sudo mlflow-onprem install"
    if systemd is not None and (full := [str(each) for each in disk_space.look(systemd.host, probe.places, probe.objects) if each.full]):
        so_far = "it still answers" if healthy else detail
        healthy, detail, fix = False, f"the disk is full: {'; '.join(full)}; {so_far}", disk_space.HINT
    return Verdict(probe.name, probe.unit, probe.port, active, healthy, detail, round((time.monotonic() - started) * 1000, 1), fix)


def _get(url: str, host: str | None = None) -> tuple[int, str, bytes]:
    """Status, Server header and the first bytes of the body, within TIMEOUT altogether; never through a proxy: these are our own ports."""
    import requests

    end = time.monotonic() + TIMEOUT
    try:
        with requests.Session() as session:
            session.trust_env = False
            with session.get(url, timeout=TIMEOUT, stream=True, allow_redirects=False, headers={"Host": host} if host else None) as answer:
                body = b""
                for chunk in answer.iter_content(1024):
                    body += chunk
                    if len(body) > 4096 or time.monotonic() > end:
                        break
                return answer.status_code, answer.headers.get("Server", ""), body
    except requests.Timeout:
        raise ProbeFailed(f"accepts the connection and does not answer within {TIMEOUT:.0f} s") from None
    except requests.RequestException as failed:
        text = str(failed)
        raise ProbeFailed("nothing listens on this port" if "refused" in text else "does not speak HTTP, or broke off") from None
