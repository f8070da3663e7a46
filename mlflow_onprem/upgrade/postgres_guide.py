"""PostgreSQL's own major upgrade after a release upgrade of the host: the exact steps, with what they keep and how to go back."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.settings import topology
from mlflow_onprem.settings.facts import DISTRIBUTION_POSTGRES
from mlflow_onprem.settings.topology import ExternalPostgres
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system.local_host import LocalHost


@dataclass(frozen=True)
class Guide:
    """The cluster in use and the distribution's version, and what to type, each with what it does. `back` leads back until the last step."""

    have: int
    distribution: int
    steps: tuple[tuple[str, str], ...]
    back: tuple[tuple[str, str], ...]


def guide(host: LocalHost, assembly: Assembly) -> Guide | None:
    """None where the cluster in use is of the distribution's version or later, or is not ours to upgrade."""
    facts = assembly.facts
    wanted = DISTRIBUTION_POSTGRES.get(facts.codename)
    if isinstance(topology.postgres(assembly.config), ExternalPostgres) or wanted is None or facts.postgres_version >= wanted:
        return None
    have = facts.postgres_version
    return Guide(have, wanted, steps(have, wanted, there=host.stat(f"/etc/postgresql/{wanted}/main") is not None), way_back(have, wanted))


def steps(have: int, wanted: int, *, there: bool) -> tuple[tuple[str, str], ...]:
    """What to type, in order. `there`: a cluster of the wanted version exists already."""
    room = (
        f"sudo pg_dropcluster --stop {wanted} main",
        "makes room; look first that it is empty: sudo -u postgres psql -l --cluster " + f"{wanted}/main",
    )
    return (
        ("sudo mlflow-onprem backup create", "everything, as it is now"),
        (f"sudo apt-get install postgresql-{wanted}", "the new server beside the old one; where it makes a cluster of its own, ask this guide again"),
        ("sudo systemctl stop mlflow.service", "nobody writes from here on"),
        *([room] if there else []),
        (
            f"sudo pg_upgradecluster {have} main",
            "dump and restore: slow and safe. The new cluster takes the port; the old one is kept, stopped, on another port",
        ),
        ("sudo mlflow-onprem install", "our settings, access rules and unit file for the new cluster; starts MLflow again"),
        ("sudo mlflow-onprem doctor", "everything works?"),
        (f"sudo pg_dropcluster {have} main", "only then, and for good: the old cluster goes"),
    )


def way_back(have: int, wanted: int) -> tuple[tuple[str, str], ...]:
    """Until the old cluster is dropped."""
    return (
        ("sudo systemctl stop mlflow.service", "what was logged since stays in the new cluster"),
        (f"sudo pg_dropcluster --stop {wanted} main", "the new cluster goes"),
        (f"sudo pg_conftool {have} main set port 5432", "the old one takes the port again"),
        (f"sudo sed -i 's/manual/auto/' /etc/postgresql/{have}/main/start.conf", "and starts by itself"),
        (f"sudo systemctl start postgresql@{have}-main && sudo mlflow-onprem install", "as before"),
    )
