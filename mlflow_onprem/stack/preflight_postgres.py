"""What is refused before the first change because of PostgreSQL as it was found: somebody else's cluster, or one that cannot do it."""

from __future__ import annotations

from mlflow_onprem.clients.sql import SqlError
from mlflow_onprem.core.errors import Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.topology import ExternalPostgres
from mlflow_onprem.stack import postgres
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system import clusters
from mlflow_onprem.system.clusters import Cluster

CONFIG = "/etc/mlflow-onprem/config.toml"
OWN = f"to leave it alone, give ours another port (port in [postgres] of {CONFIG}): then a cluster of its own is made"


def check(host: Host, assembly: Assembly) -> None:
    """Raises Refused. Nothing is asked of a server that is not ours by configuration, or not there yet."""
    config, facts = assembly.config, assembly.facts
    if isinstance(topology.postgres(config), ExternalPostgres):
        return
    cluster = postgres.cluster_of(facts)
    there = clusters.every(host)
    _check_port(cluster, there, config.postgres.port, shared=facts.postgres_shared)
    if cluster.label not in {each.label for each in there}:
        return
    if host.stat(cluster.data) is None:
        raise Refused(
            f"the data of PostgreSQL's cluster {cluster.label} are not there: {cluster.data} is missing (a disk that is not mounted?)",
            f"mount it; or, if they are gone for good: sudo pg_dropcluster {cluster.version} {cluster.name}, then run this again for a new one",
        )
    if facts.postgres_shared:
        _check_shared(cluster)
    if host.stat(cluster.pid_file) is not None:
        _check_running(assembly, cluster, shared=facts.postgres_shared)


def _check_port(cluster: Cluster, there: tuple[Cluster, ...], port: int, *, shared: bool) -> None:
    other = next((each for each in there if each.port == port and each.start == "auto" and each.label != cluster.label), None)
    if other is not None:
        raise Refused(
            f"port {port} belongs to another cluster of PostgreSQL here, {other.label}; MLflow's is {cluster.label}",
            f"give ours another port: port in [postgres] of {CONFIG}",
        )
    if shared and cluster.port != port:
        raise Refused(
            f"PostgreSQL's cluster {cluster.label}, which holds MLflow's databases and was here before it, is set to port {cluster.port}, not {port}",
            f"set port = {cluster.port} in [postgres] of {CONFIG}, then run this again",
        )


def _check_shared(cluster: Cluster) -> None:
    if cluster.start != "auto":
        raise Refused(
            f"PostgreSQL's cluster {cluster.label} was here before us and does not start at boot (start.conf: {cluster.start}): after a reboot "
            "MLflow would have no database",
            f"to let it start: echo auto | sudo tee {cluster.folder}/start.conf, then run this again; {OWN}",
        )
    if not {clusters.SOCKETS, clusters.SOCKETS.removeprefix("/var")} & set(cluster.sockets):
        raise Refused(
            f"PostgreSQL's cluster {cluster.label} was here before us and keeps its socket in {', '.join(cluster.sockets)}: MLflow looks for it in "
            f"{clusters.SOCKETS}",
            f"add {clusters.SOCKETS} to unix_socket_directories in {cluster.conf} and restart it; {OWN}",
        )


def _check_running(assembly: Assembly, cluster: Cluster, *, shared: bool) -> None:
    statement = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')"
    try:
        [[standby, read_only]] = assembly.sql.query("postgres", statement)
    except SqlError as failed:
        if failed.kept_out and not shared:
            return  # our own line in pg_hba.conf lets it in again
        if failed.kept_out:
            raise Refused(
                f"PostgreSQL's cluster {cluster.label} does not let its administrator in ({failed.message.removeprefix('PostgreSQL says: ')}): "
                "without that no database can be made",
                f"put the line `local all postgres peer` before every other line of {cluster.hba}, run `sudo systemctl reload {cluster.unit}`, "
                f"then run this again; {OWN}",
            ) from failed
        if failed.sqlstate.startswith("53"):
            raise Refused(f"PostgreSQL's cluster {cluster.label} has no room for one more connection: {failed.message}", failed.hint) from failed
        if failed.unreachable:
            return  # starting, stopping, or a pid file of a server that died
        raise
    if standby:
        raise Refused(
            f"PostgreSQL's cluster {cluster.label} is a standby: it copies another server and nothing can be written to it",
            f'use its primary (mode = "external" in [postgres]), or make this one a server of its own; {OWN}',
        )
    if read_only == "on":
        raise Refused(
            f"PostgreSQL's cluster {cluster.label} is set read-only (default_transaction_read_only = on): MLflow could not write",
            "sudo -u postgres psql -c 'ALTER SYSTEM RESET default_transaction_read_only' -c 'SELECT pg_reload_conf()'; where it stays so, "
            f"look for it in {cluster.conf}",
        )
