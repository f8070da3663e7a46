"""`doctor`: what a client does all day, what must not be exposed, and the host under it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from mlflow_onprem.clients.object_store import MinioStore
from mlflow_onprem.core import engine
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.core.finding import Finding, error, ok
from mlflow_onprem.doctor import exposure, host_checks, objects
from mlflow_onprem.doctor.examination import Examination
from mlflow_onprem.doctor.smoke_test import Rest, StepFailed, forget_input, travel
from mlflow_onprem.resources.schema import Schema
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.addresses import remarks, tracking_uri
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.topology import LocalPostgres, LocalStore
from mlflow_onprem.stack import health
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.stack.health import Verdict
from mlflow_onprem.stack.mlflow import public_store_url
from mlflow_onprem.stack.mlflow_connection import local_url
from mlflow_onprem.system.local_host import LocalHost


def examine(host: LocalHost, assembly: Assembly, say: Callable[[Finding], None] = lambda _: None) -> Examination:
    """Look at everything; safe on a busy stack: one small experiment of its own is made and deleted.

    `say` hears each finding as it comes. Raises Refused for anyone but root: the administrator's password is needed.
    """
    if not host.is_root:
        raise Refused("doctor logs in as the administrator and needs root for the password", "run it with sudo; `mlflow-onprem status` needs no root")
    began = time.monotonic()
    findings = []
    for finding in _look(host, assembly):
        findings.append(finding)
        say(finding)
    return Examination(tuple(findings), time.monotonic() - began)


def _look(host: LocalHost, assembly: Assembly) -> Iterator[Finding]:
    config, facts = assembly.config, assembly.facts
    # To this host's own port, by the name that clients are told: whether that name leads here is another question.
    told, url = tracking_uri(host, config, facts), local_url(config)
    name = urlsplit(told).netloc
    rest = _rest(assembly, url, name)
    services = health.look(assembly.to.systemd, assembly.probes())
    yield from map(_service, services)
    healthy = all(each.healthy for each in services)
    # Whoever holds the port of a service that is down is not told the administrator's password.
    down = {each.name for each in services if each.active is False}
    if healthy:
        yield from client_day(host, assembly, rest)

    endpoint = topology.store(config.minio).endpoint
    yield host_checks.client_address(told, remarks(config, facts))
    if "minio" not in down:
        yield exposure.default_account(endpoint, config.minio.region)
    if "mlflow" not in down:
        yield exposure.foreign_name(rest)
        yield exposure.no_account(config, url, name)
    yield from exposure.ports(host, config, postgres_shared=facts.postgres_shared)

    yield host_checks.secret_files(host, assembly)
    yield host_checks.drift(engine.plan(host, assembly.stack))
    yield host_checks.sandboxing(facts)
    asked = (("minio", "the object store", endpoint), ("mlflow", "MLflow", f"{url}/health"))
    yield from host_checks.clock(host, [(what, _date(address)) for service, what, address in asked if service not in down])
    yield from host_checks.disk(host, assembly)
    yield host_checks.tables(host, assembly)
    if "mlflow" not in down:
        yield _mlflow_version(config, rest)
    yield from _versions(host, assembly)
    yield from host_checks.units(host, assembly)
    if healthy:
        yield from objects.look(host, assembly)


def client_day(host: LocalHost, assembly: Assembly, server: Rest | str) -> Iterator[Finding]:
    """What a client does all day, through one server (or its URL): log, read back, upload, download, delete. Leaves nothing behind.

    Nothing is asked of the stack's own ports: an upgrade tries its new server out on another one.
    """
    rest = _rest(assembly, server) if isinstance(server, str) else server
    direct = (lambda uri, content: _through_store(assembly, uri, content)) if assembly.config.mlflow.artifacts == "direct" else None
    yield from travel(rest, lambda experiments: _forget(host, assembly, experiments), direct)


def _rest(assembly: Assembly, url: str, name: str | None = None) -> Rest:
    credentials = assembly.credentials
    account = (credentials.mlflow_admin, credentials.mlflow_admin_password.reveal()) if assembly.config.mlflow.auth.enabled else None
    return Rest(url, account, name)


def _service(found: Verdict) -> Finding:
    """One of the three ports: with one of them down a client's day would only wait for it."""
    if found.healthy:
        return ok("service", f"{found.name} on port {found.port}: {found.detail}")
    fix = f"{host_checks.INSTALL}; its log: mlflow-onprem logs {found.name}" if found.unit else "it is not ours: ask whoever runs it"
    why = "no run can be logged without it; a client's day was not tried"
    return error("service", f"{found.name} on port {found.port}: {found.detail}", why, found.fix or fix)


def _mlflow_version(config: Config, rest: Rest) -> Finding:
    try:
        return host_checks.mlflow_version(rest.send("GET", "/version").text.strip(), config.mlflow.version)
    except StepFailed as failed:
        return error("MLflow's version", str(failed), "MLflow does not serve", host_checks.INSTALL)


def _versions(host: LocalHost, assembly: Assembly) -> Iterator[Finding]:
    config = assembly.config
    if isinstance(topology.store(config.minio), LocalStore):
        program = "/opt/mlflow-onprem/object-store/current/minio"
        try:
            yield host_checks.store_version(host.run([program, "--version"], ok=(0, 1)).out.partition("\n")[0].strip(), config.minio)
        except OnPremError as failed:
            yield error("object store's version", failed.message, "the program is damaged or missing", host_checks.INSTALL)
    yield host_checks.store_features(host)
    if isinstance(topology.postgres(config), LocalPostgres):
        yield host_checks.postgres_version(host, assembly.facts.postgres_version)


def _forget(host: LocalHost, assembly: Assembly, experiments: list[str]) -> None:
    schema = next(each for each in assembly.stack if isinstance(each, Schema))
    host.run(
        [schema.python, "-m", "mlflow_onprem_server.forget"],
        stdin=forget_input(experiments),
        user=schema.user,
        env={**dict(schema.environment), "HOME": "/var/lib/mlflow"},
        timeout=300,
        hint="run `sudo mlflow-onprem install`, then this again",
    )


def _through_store(assembly: Assembly, uri: str, content: bytes) -> bytes:
    """What a client does where artifacts go straight to the store: its key, the store's public address."""
    config, credentials = assembly.config, assembly.credentials
    key, secret = assembly.external.s3 or (credentials.s3_access_key, credentials.s3_secret_key)
    store = MinioStore(public_store_url(config, assembly.facts), key, secret, config.minio.region)
    parts = urlsplit(uri)
    try:
        return store.round_trip(parts.netloc, parts.path.lstrip("/"), io.BytesIO(content), len(content))
    except OnPremError as failed:
        raise StepFailed(f"clients send artifacts to the store themselves, and that fails: {failed.message}") from None


def _date(url: str) -> str | None:
    """The Date header of an answer, None where none comes (another finding says so)."""
    import requests

    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(url, timeout=5, stream=True, allow_redirects=False).headers.get("Date")
    except requests.RequestException:
        return None
