"""`uninstall` leaves the host as it was before `bootstrap`, or keeps what `install` then brings back with every run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, product

from tests.host import rest, steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host

#: Logs, caches and the package manager's own books are not what a host is: they are left out of the comparison.
IGNORED = (
    "/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/var/tmp", "/var/log", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/systemd",
    "/var/lib/ucf", "/var/cache/shared", "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-",
    "/etc/ld.so.cache", "/var/backups", "/etc/.pwd.lock", "/var/lib/postgresql/*/main/pg_wal/*",
)  # fmt: skip
SNAPSHOT = r"""
cd /
prune=$(printf -- '-path %s -prune -o ' "$@")
find / $prune -printf '%p %y %m %u:%g %l\n' | sort | grep -v '/__pycache__'
echo "== contents"
find /etc /usr/local -type f $(printf -- '! -path %s ' "$@") -exec sha256sum {} + | sort -k2
echo "== packages"
dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n' | sort
echo "== units"
systemctl list-unit-files --no-legend --plain | sort
echo "== listeners"
ss -Hltn | sed 's/  */ /g' | cut -d' ' -f4 | sort
"""


def snapshot(server: Sandbox) -> list[str]:
    """Files with modes and owners, contents of /etc and /usr/local (accounts are files there), packages, units, listening ports."""
    return server.run(["sh", "-c", SNAPSHOT, "sh", *IGNORED], timeout=120).out.splitlines()


def difference(before: list[str], after: list[str]) -> list[str]:
    """Lines of one that are not in the other."""
    return sorted({f"- {line}" for line in before} - {f"- {line}" for line in after}) + sorted(
        {f"+ {line}" for line in after} - {f"+ {line}" for line in before}
    )


@pytest.fixture
def fresh(host: HostFactory, base: Layer, config: str, store: Path) -> Sandbox:
    """A plain server that knows where its object store comes from."""
    server = host(base)
    product.configure(server, config, store)
    return server


@pytest.mark.long  # not seen green since the modules moved
def test_purged_the_host_is_as_before_bootstrap(fresh: Sandbox) -> None:
    before = snapshot(fresh)
    product.bootstrap(fresh, product.checkout(), lambda _: None)
    steps.install(fresh)
    kept = rest.log(fresh)
    installed = snapshot(fresh)
    assert len(difference(before, installed)) > 100

    # The first time data is kept: nothing of ours listens or starts, and install brings run and artifact back.
    refused = fresh.run(["mlflow-onprem", "uninstall"], ok=steps.ANY)
    assert (refused.code, "add --yes" in refused.err) == (2, True)
    assert rest.is_there(fresh, kept)
    answer = json.loads(fresh.run(["mlflow-onprem", "uninstall", "--yes", "--json"], timeout=300).out)
    assert "service:mlflow.service" in answer["removed"]
    assert answer["lost"] is None
    ports = fresh.run(["ss", "-Hltn"]).out
    assert not [port for port in (5000, 5432, 9000, 9001) if f":{port} " in ports]
    assert fresh.run(["sh", "-c", "ls /etc/systemd/system | grep -E 'mlflow|minio'"], ok=(0, 1)).out == ""
    again = json.loads(fresh.run(["mlflow-onprem", "uninstall", "--yes", "--json"], timeout=300).out)
    assert again["removed"] == []
    steps.install(fresh)
    assert rest.is_there(fresh, kept)
    assert steps.plan(fresh)[0] == 0

    # The second time all of it goes, after it was said how much that is.
    result = fresh.run(["mlflow-onprem", "uninstall", "--purge-data", "--yes"], timeout=300)
    assert re.search(r"LOST FOR GOOD: 1 run, 0 registered models, 1\d\d\.\d kB of artifacts", result.out), result.out
    fresh.run(["/opt/mlflow-onprem/cli/remove"], timeout=300)
    left = difference(before, snapshot(fresh))
    assert not left, "\n".join(left)


def test_in_a_shared_cluster_only_ours_goes(host: HostFactory, bootstrapped: Layer, config: str, store: Path) -> None:
    server = host(bootstrapped)
    product.configure(server, config, store)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    server.run(["apt-get", "-qq", "update"], timeout=300)
    server.run(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", "postgresql"], env=quiet, timeout=600)
    cluster = server.run(["sh", "-c", "echo /etc/postgresql/*/main"]).out.strip()
    server.run(["systemctl", "start", "postgresql"])
    steps.until(lambda: server.run(["pg_isready"], ok=steps.ANY).code == 0, "PostgreSQL serves")
    steps.psql(server, "CREATE ROLE other LOGIN PASSWORD 'other'")
    steps.psql(server, "CREATE DATABASE other OWNER other")
    steps.psql(server, "CREATE TABLE kept AS SELECT 42 AS answer", "other")
    before = snapshot(server)
    started = server.run(["systemctl", "show", "-p", "InvocationID", "--value", "postgresql@*"]).out
    steps.install(server)

    result = server.run(["mlflow-onprem", "uninstall", "--purge-data", "--yes"], timeout=300)
    assert "it was here before us" in result.out or "other databases too (other)" in result.out
    assert steps.psql(server, "SELECT answer FROM kept", "other") == "42"
    assert steps.psql(server, "SELECT count(*) FROM pg_database WHERE datname LIKE 'mlflow%'") == "0"
    assert steps.psql(server, "SELECT count(*) FROM pg_roles WHERE rolname = 'mlflow_user'") == "0"
    assert "mlflow" not in server.run(["sh", "-c", f"cat {cluster}/pg_hba.conf {cluster}/pg_ident.conf"]).out
    assert server.run(["systemctl", "show", "-p", "InvocationID", "--value", "postgresql@*"]).out == started, "nobody else was interrupted"
    left = difference(before, snapshot(server))
    assert not left, "\n".join(left)
