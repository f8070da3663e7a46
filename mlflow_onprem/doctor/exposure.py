"""What must not be exposed: the store's default account, other names for the server, callers without an account, ports on the network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from mlflow_onprem.clients.object_store import MinioStore
from mlflow_onprem.clients.store_errors import StoreRefused, StoreUnreachable
from mlflow_onprem.core.finding import Finding, error, ok, warning
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.doctor.smoke_test import Rest, StepFailed
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.topology import LocalPostgres, LocalStore
from mlflow_onprem.system.ports import listeners

DEFAULT_ACCOUNT = "minioadmin"
#: One route of each part of MLflow: its API, artifacts, GraphQL, traces (another framework inside MLflow), the web page.
WITHOUT_ACCOUNT = (
    ("POST", "/api/2.0/mlflow/experiments/search"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts"),
    ("POST", "/graphql"),
    ("POST", "/v1/traces"),
    ("GET", "/"),
)


def default_account(store_endpoint: str, region: str) -> Finding:
    """The password that every MinIO starts with unless told otherwise must be refused."""
    store = MinioStore(store_endpoint, DEFAULT_ACCOUNT, Secret(DEFAULT_ACCOUNT), region)
    try:
        store.has_bucket("mlflow-onprem-doctor-probe")
    except StoreRefused:
        return ok("default account", f"the object store refuses {DEFAULT_ACCOUNT}:{DEFAULT_ACCOUNT}")
    except StoreUnreachable:
        return error(
            "default account",
            f"the object store at {store_endpoint} does not answer",
            "no artifact can be kept or fetched",
            "sudo mlflow-onprem install",
        )
    return error(
        "default account",
        f"the object store lets {DEFAULT_ACCOUNT}:{DEFAULT_ACCOUNT} in",
        "it is everybody's first guess, and it owns every bucket",
        "sudo mlflow-onprem install (for a store that is not ours: its administrator has to change it)",
    )


def foreign_name(rest: Rest) -> Finding:
    """A request for another host name is what DNS rebinding sends from a victim's browser."""
    try:
        status = rest.send("POST", "/api/2.0/mlflow/experiments/search", json={"max_results": 1}, headers={"Host": "attacker.example"}).status_code
    except StepFailed as failed:
        return error("foreign name", str(failed), "nobody reaches MLflow at its address", "sudo mlflow-onprem install")
    if status in (400, 403, 421):
        return ok("foreign name", f"a request for another host name is refused (HTTP {status})")
    return error(
        "foreign name",
        f"a request for the host name attacker.example is served (HTTP {status})",
        "a web page somebody visits could read and change MLflow through their browser",
        "check [mlflow] hosts in /etc/mlflow-onprem/config.toml, then `sudo mlflow-onprem install`",
    )


def no_account(config: Config, url: str, name: str | None = None) -> Finding:
    """Without an account nothing but health and version is answered."""
    if not config.mlflow.auth.enabled:
        return warning(
            "no account",
            "accounts are off: whoever reaches the port may read, change and delete everything",
            "every quarter of 2026 brought MLflow a hole that needs no account",
            "set enabled = true in [mlflow.auth] of /etc/mlflow-onprem/config.toml, then `sudo mlflow-onprem install`",
        )
    rest = Rest(url, None, name)
    open_routes = []
    for method, path in WITHOUT_ACCOUNT:
        try:
            status = rest.send(method, path, **({"json": {"max_results": 1}} if method == "POST" else {})).status_code
        except StepFailed as failed:
            return error("no account", str(failed), "nobody reaches MLflow at its address", "sudo mlflow-onprem install")
        if status not in (401, 403):
            open_routes.append(f"{method} {path} (HTTP {status})")
    if open_routes:
        return error(
            "no account",
            f"answered without an account: {', '.join(open_routes)}",
            "whoever reaches the port gets in",
            "`sudo mlflow-onprem install`; where it stays so, stop mlflow.service and report it",
        )
    return ok("no account", f"without an account all of {len(WITHOUT_ACCOUNT)} routes tried are refused")


def ports(host: Host, config: Config, *, postgres_shared: bool) -> Iterator[Finding]:
    """What listens beyond this host, against what the configuration opens."""
    found = listeners(host)
    wanted: list[tuple[str, int, bool, str]] = [("MLflow", config.mlflow.port, _is_local(config.mlflow.bind), "[mlflow] bind")]
    if isinstance(topology.store(config.minio), LocalStore):
        wanted += [
            ("the object store", config.minio.port, _is_local(config.minio.bind), "[minio] bind"),
            ("the object store's console", config.minio.console_port, _is_local(config.minio.console_bind), "[minio] console_bind"),
        ]
    if isinstance(topology.postgres(config), LocalPostgres):
        wanted.append(("PostgreSQL", config.postgres.port, not config.postgres.allowed_networks, "[postgres] allowed_networks"))
    shut = []
    for name, port, closed, key in wanted:
        outside = sorted(each.address for each in found if each.port == port and not each.loopback)
        if closed and outside:
            what = f"{name} listens on {', '.join(outside)} port {port}; the configuration keeps it to this host"
            if name == "PostgreSQL" and postgres_shared:
                yield warning(
                    "ports",
                    what,
                    "this cluster was here before MLflow: its owner decides; MLflow's role is let in from this host alone",
                    "set listen_addresses in postgresql.conf if nobody else needs it",
                )
            else:
                yield error("ports", what, "the network can try passwords and holes there", f"`sudo mlflow-onprem install`; opened on purpose: {key}")
        elif closed:
            shut.append(str(port))
    if shut:
        yield ok("ports", f"only this host reaches {', '.join(shut)}")


def _is_local(bind: str) -> bool:
    return ipaddress.ip_address(urlsplit(f"//{bind}").netloc or bind).is_loopback
