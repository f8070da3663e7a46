"""A database and an object store that are there already: on another host, or beside others in a cluster of this one."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, layers, product

from tests.host import steps
from tests.host.clients import EVERYTHING, VERSIONS, use, variables, worked
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
PASSWORD, KEY, SECRET = "a-password-with-%-and-:-in-it", "external-key", "external-secret-of-40-characters-or-less"
PROVIDE = """\
set -e
sudo -u postgres psql -qc "CREATE ROLE theirs LOGIN CREATEDB PASSWORD '%s'" -c "CREATE DATABASE tracking OWNER theirs"
echo "host all theirs samenet scram-sha-256" >> /etc/postgresql/15/main/pg_hba.conf
echo "listen_addresses = '*'" > /etc/postgresql/15/main/conf.d/open.conf
systemctl restart postgresql@15-main
mkdir -p /srv/store
systemd-run --quiet --unit=store --setenv=MINIO_ROOT_USER=%s --setenv=MINIO_ROOT_PASSWORD=%s minio server --address :9000 /srv/store
"""


def _postgres(machine: Sandbox) -> None:
    machine.run(["apt-get", "-qq", "update"], timeout=300)
    machine.run(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", "postgresql-15"], env=QUIET, timeout=600)


def database_layer(below: Layer, say: product.Progress) -> Layer:
    """A machine with Debian's PostgreSQL as apt leaves it."""
    key = f"postgres-{hashlib.sha256(below.key.encode()).hexdigest()[:12]}"
    with layers.locked("build"):
        return product.kept_layer(key, below, _postgres, say, "provider")


@pytest.mark.long  # not seen green since the modules moved
def test_external_database_and_store(
    host: HostFactory, base: Layer, bootstrapped: Layer, clients: Layer, store: Path, config: str, say: product.Progress
) -> None:
    """Both on a second host: install brings neither here, a client does everything, and a second install changes nothing."""
    provider = host(database_layer(base, say), hostname="provider")
    provider.push(store, "/usr/local/bin/minio")
    provider.run(["sh", "-c", PROVIDE % (PASSWORD, KEY, SECRET)])

    server = host(bootstrapped)
    server.write("/etc/mlflow-onprem/external-postgres", f"{PASSWORD}\n", mode=0o600)
    server.write("/etc/mlflow-onprem/external-s3", f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n", mode=0o600)
    address = provider.address
    report = steps.install(
        server,
        f'[minio]\nmode = "external"\nendpoint = "http://{address}:9000"\ncredentials_file = "/etc/mlflow-onprem/external-s3"\n'
        f'[postgres]\nmode = "external"\nurl = "postgresql://theirs@{address}:5432/tracking"\n'
        'password_file = "/etc/mlflow-onprem/external-postgres"\n',
    )
    assert all(each["healthy"] for each in report["services"])
    assert not [name for name in report["changed"] if "minio" in name or "packages:postgresql" in name]
    for absent in ("/opt/minio", "/etc/systemd/system/minio.service", "/etc/postgresql"):
        assert server.run(["test", "-e", absent], ok=(0, 1)).code == 1, absent
    assert "ii" not in server.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}", "postgresql-15"], ok=(0, 1)).out

    client = host(clients, hostname="client")
    assert worked(use(client, VERSIONS[0], variables(server))) == dict.fromkeys(EVERYTHING, True)
    assert steps.psql(provider, "SELECT count(*) > 0 FROM runs", "tracking") == "t"
    assert provider.run(["ls", "/srv/store/mlflow"]).out.strip()

    pid = steps.show(server, "mlflow.service", "MainPID", "InvocationID")
    again = steps.install(server)
    assert again["changed"] == []
    assert steps.show(server, "mlflow.service", "MainPID", "InvocationID") == pid
    assert steps.plan(server)[0] == 0
    assert steps.status(server, user="nobody")[0] == 0
    shown = server.run(
        ["sh", "-c", f"grep -rlF -e '{PASSWORD}' -e '{SECRET}' /etc /var/log /opt/mlflow-onprem/object-store /run 2>/dev/null || true"]
    ).out.split()
    modes = server.run(["stat", "-c", "%a", *shown]).out.split()
    assert set(modes) == {"600"}, shown


@pytest.mark.long  # not seen green since the modules moved
def test_a_database_beside_ours_is_left_alone(
    host: HostFactory, base: Layer, bootstrapped: Layer, config: str, store: Path, say: product.Progress
) -> None:
    """A cluster that served others before us: their settings, rules and data stay, and a connection of theirs lives through install."""
    with layers.locked("build"):
        key = f"foreign-{hashlib.sha256(bootstrapped.key.encode()).hexdigest()[:12]}"
        layer = product.kept_layer(key, bootstrapped, _postgres, say)
    server = host(layer)
    hba, conf = "/etc/postgresql/15/main/pg_hba.conf", "/etc/postgresql/15/main/conf.d/shop.conf"
    server.run(["sh", "-c", f"sed -i '1i host shop shop 10.1.0.0/16 scram-sha-256' {hba}"])
    server.write(conf, "work_mem = '7MB'\nmax_connections = 50\nlisten_addresses = '127.0.0.1'\n")
    server.run(["systemctl", "restart", "postgresql@15-main"])
    steps.psql(server, "CREATE DATABASE shop")
    steps.psql(server, "CREATE TABLE orders AS SELECT n, md5(n::text) AS text FROM generate_series(1, 1000) n", "shop")
    before = server.read(hba).decode()
    postmaster = steps.show(server, "postgresql@15-main.service", "MainPID", "InvocationID")
    sums = "SELECT md5(string_agg(text, '' ORDER BY n)) FROM orders"
    data = steps.psql(server, sums, "shop")
    theirs = server.popen(["psql", "--no-psqlrc", "-qtA", "-d", "shop"], user="postgres")

    def ask(statement: str) -> str:
        assert theirs.stdin is not None
        assert theirs.stdout is not None
        theirs.stdin.write(f"{statement};\n")
        theirs.stdin.flush()
        return theirs.stdout.readline().strip()

    backend = ask("SELECT pg_backend_pid()")
    product.configure(server, config, store)
    steps.install(server)
    assert ask("SELECT pg_backend_pid()") == backend, "their connection was not cut"
    theirs.communicate()
    assert theirs.returncode == 0

    assert steps.show(server, "postgresql@15-main.service", "MainPID", "InvocationID") == postmaster
    settings = steps.psql(
        server, "SELECT name, setting FROM pg_settings WHERE name IN ('work_mem', 'max_connections', 'listen_addresses') ORDER BY 1"
    )
    assert settings == "listen_addresses|127.0.0.1\nmax_connections|50\nwork_mem|7168"
    assert re.sub(r"# >>> mlflow-onprem.*?# <<< mlflow-onprem <<<\n", "", server.read(hba).decode(), flags=re.DOTALL) == before
    assert steps.psql(server, sums, "shop") == data
    assert steps.psql(server, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'shop'") == "postgres"
    # Our role does not get into theirs, by no way.
    refused = server.run(["psql", "-U", "mlflow_user", "-d", "shop", "-c", "SELECT 1"], user="mlflow", ok=steps.ANY)
    assert (refused.code, "reject" in refused.err) == (2, True)

    running = steps.running(server)
    assert steps.install(server)["changed"] == []
    assert steps.running(server) == running
    assert json.loads(server.run(["mlflow-onprem", "status", "--json"]).out)["healthy"]
