"""PostgreSQL's cluster: made where it is missing, started at boot, and its administrator let in. Never rebuilt over data."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.clients.sql import Sql, SqlError
from mlflow_onprem.core import wait
from mlflow_onprem.core.errors import CommandFailed, OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base, Unknown
from mlflow_onprem.system import clusters
from mlflow_onprem.system.clusters import Cluster
from mlflow_onprem.system.systemd import Systemd

DEADLINE = 20.0  # seconds, for the server to read its files again
FULL = ("No space left on device", "Disk quota exceeded")


@dataclass(frozen=True)
class ClusterState:
    """What start.conf says; None where that is its owner's."""

    start: str | None


@dataclass(frozen=True)
class PostgresCluster(Base):
    """A cluster of Debian's kind. Wanted absent it is dropped with all its data; only one that we made is ever wanted absent."""

    cluster: Cluster
    port: int
    want: ClusterState | None
    systemd: Systemd

    @property
    def name(self) -> str:
        return f"cluster:{self.cluster.label}"

    def observe(self, host: Host) -> ClusterState | None:
        found = next((each for each in clusters.every(host) if each.label == self.cluster.label), None)
        if found is None:
            return None
        return ClusterState(None if self.want is not None and self.want.start is None else found.start)

    def apply(self, host: Host, have: ClusterState | None) -> None:
        version, name = str(self.cluster.version), self.cluster.name
        if self.want is None:
            host.run(["pg_dropcluster", "--stop", version, name], timeout=180)
            self.systemd.forget()
        elif have is None:
            self._create(host, version, name)
        elif self.want.start is not None:
            host.write(f"{self.cluster.folder}/start.conf", f"{self.want.start}\n".encode(), mode=0o644, owner="postgres", group="postgres")
        # Debian's generator links the units of clusters that start at boot.
        self.systemd.act("daemon-reload")

    def _create(self, host: Host, version: str, name: str) -> None:
        new = host.stat(f"{self.cluster.data}/PG_VERSION") is None
        # C.UTF-8 is on every Debian and Ubuntu, whatever the host's own locale is, and its order of texts never changes with libc.
        locale = ["--locale", "C.UTF-8", "--encoding", "UTF8"] if new else []
        try:
            host.run(["pg_createcluster", "--port", str(self.port), "--start-conf", "auto", *locale, version, name], timeout=300)
        except CommandFailed as failed:
            if any(sign in failed.output for sign in FULL):
                raise OnPremError(
                    f"the disk is full: PostgreSQL could not make its cluster {self.cluster.label} in {self.cluster.data}",
                    f"free some space (`df -h {clusters.DATA}`, `sudo apt-get clean`), then run this again",
                    failed.output,
                ) from failed
            raise


@dataclass(frozen=True)
class AccessState:
    """Whether the account postgres of this host gets in as the cluster's administrator."""

    let_in: bool


@dataclass(frozen=True)
class AdministratorAccess(Base):
    """The running server has read the line of pg_hba.conf that lets its administrator in. Only that is asked: other failures are others' to tell."""

    sql: Sql
    systemd: Systemd
    unit: str
    want: AccessState | None = AccessState(let_in=True)

    @property
    def name(self) -> str:
        return f"administrator:{self.unit}"

    def observe(self, host: Host) -> AccessState | Unknown | None:
        if self.want is None:
            return None
        if not host.is_root:
            return Unknown("only root may look into PostgreSQL", hidden=True)
        return AccessState(not self._kept_out())

    def apply(self, host: Host, have: AccessState | None) -> None:
        if self.want is None:
            return
        self.systemd.act("reload", self.unit)
        wait.until(lambda: not self._kept_out(), DEADLINE)

    def _kept_out(self) -> bool:
        try:
            self.sql.query("postgres", "SELECT 1")
        except SqlError as failed:
            return failed.kept_out
        return False
