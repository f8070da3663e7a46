"""`install` that is killed or stopped anywhere is finished by the next one, and what it makes is what an undisturbed one makes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, product

from mlflow_onprem.core.host import Result
from tests.host import steps
from tests.host.clients import EVERYTHING, VERSIONS, use, variables, worked
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
KILLER = Path(__file__).with_name("killer.py")
INSIDE = "/root/killer.py"
KILLED = 128 + 9
#: Of files with secrets in them, or with times and digests that differ from host to host, only that they are there counts.
OF_ITS_OWN = ("/credentials.json", "/root-user", "/root-password", "/environment.json", "/manifest.json", "/secret-dates.json", "/auth.ini")
SECRETS = ("/etc/mlflow-onprem/mlflow/", "/var/lib/mlflow-onprem/stamps/", "/opt/mlflow-onprem/environments/")


def killed_install(server: Sandbox, how: str, what: str) -> Result:
    """One run with the killer; 137 where it was killed."""
    argv = ["sh", "-c", '"$@"; exit $?', "sh", "/opt/mlflow-onprem/cli/bin/python", INSIDE, how, what]
    result = server.run(argv, ok=steps.ANY, timeout=300)
    assert result.code in (0, KILLED), f"{result.code}: {result.out[-2000:]}{result.err[-2000:]}"
    return result


def prepared(made: Sandbox, config: str, store: Path) -> Sandbox:
    product.configure(made, config, store)
    made.push(KILLER, INSIDE)
    return made


def everything_on(server: Sandbox) -> dict[str, str]:
    """All that install leaves on a host, one line a thing: files with owner, mode and content, accounts, units, roles, databases, policies."""
    places = ["/etc/mlflow-onprem", "/opt/mlflow-onprem/object-store", "/opt/mlflow-onprem/environments", "/etc/systemd/system"]
    places += ["/var/lib/mlflow-onprem", "/etc/postgresql", "/usr/local/bin"]
    listing = server.run(["find", *places, "-name", "__pycache__", "-prune", "-o", "-printf", r"%p\t%y %m %u %g %l\n"]).out
    found = dict(line.split("\t", 1) for line in listing.splitlines())
    found |= dict.fromkeys(server.run(["find", "/opt/minio/data", "-maxdepth", "1", "-not", "-name", ".minio.sys"]).out.split(), "there")
    files = [path for path, text in found.items() if text[0] == "f" and not path.endswith(OF_ITS_OWN) and not path.startswith(SECRETS)]
    for line in server.run(["sha256sum", *files]).out.splitlines():
        found[line[66:]] += f" {line[:64]}"
    environment = server.read("/etc/mlflow-onprem/mlflow.env").decode().replace(server.address, "ADDRESS")
    found["/etc/mlflow-onprem/mlflow.env"] = environment
    small = "find . -name __pycache__ -prune -o -type f -size -1M -printf '%P %s\n'"
    compiled = "find . -name '*.pyc' -printf '%P\n'"
    for name, listing in {"environment": small, "byte code": compiled}.items():
        found[name] = server.run(["sh", "-c", f"cd /opt/mlflow-onprem/environments/current/ && {listing} | sort | sha256sum"]).out
    for account in ("minio", "mlflow", "postgres"):
        words = server.run(["getent", "passwd", account]).out.split(":")
        found[f"account {account}"] = " ".join([words[0], *words[4:]])
    for unit in steps.UNITS:
        found[f"unit {unit}"] = str(steps.show(server, unit, "ActiveState", "UnitFileState", "DropInPaths", "NeedDaemonReload"))
    found["roles"] = steps.psql(server, "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin FROM pg_roles ORDER BY 1")
    found["databases"] = steps.psql(server, "SELECT datname, pg_get_userbyid(datdba), datacl FROM pg_database ORDER BY 1")
    for database in ("mlflow", "mlflow_auth"):
        tables = (
            "SELECT relname, pg_get_userbyid(relowner) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public' ORDER BY 1"
        )
        found[f"tables of {database}"] = steps.psql(server, tables, database)
    found["experiments"] = steps.psql(server, "SELECT experiment_id, name, artifact_location FROM experiments ORDER BY 1", "mlflow")
    found["accounts of MLflow"] = steps.psql(server, "SELECT username, is_admin FROM users ORDER BY 1", "mlflow_auth")
    found["packages"] = server.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n"]).out
    return found


def assert_same(server: Sandbox, wanted: Mapping[str, str]) -> None:
    """Healthy, nothing to do, nothing half-written, and like the other host in everything."""
    assert steps.plan(server)[1]["changes"] == []
    assert steps.status(server)[0] == 0
    assert steps.leftovers(server) == []
    found = everything_on(server)
    assert {name: (found.get(name), wanted.get(name)) for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)} == {}


@pytest.fixture(scope="module")
def undisturbed(module_host: HostFactory) -> dict[str, str]:
    """What a host is like that was installed in one go."""
    server = module_host()
    steps.install(server)
    return everything_on(server)


@pytest.mark.long  # not seen green since the modules moved
def test_killed_after_each_resource(
    host: HostFactory, bootstrapped: Layer, clients: Layer, config: str, store: Path, undisturbed: dict[str, str]
) -> None:
    """SIGKILL between the change and the look at it, once for every resource that install changes; each run goes on where the last one died."""
    server = prepared(host(bootstrapped), config, store)
    kills = 0
    while killed_install(server, "each", "/root/killed").code == KILLED:
        kills += 1
        assert kills < 100
    names = server.read("/root/killed").decode().splitlines()
    print(f"{kills} kills")
    assert len(names) == kills == len(set(names)), "nothing had to be done twice"
    # Every kind of thing is among them: this was the whole way.
    kinds = {name.partition(":")[0] for name in names}
    assert kinds >= {
        *("directory", "file", "user", "binary", "symlink", "service", "bucket", "access-key"),
        *("packages", "block", "settings", "role", "database", "environment", "schema"),
    }
    assert_same(server, undisturbed)
    client = host(clients, hostname="client")
    assert worked(use(client, VERSIONS[0], variables(server))) == dict.fromkeys(EVERYTHING, True)


@pytest.mark.long  # not seen green since the modules moved
def test_killed_in_the_middle_of_things(host: HostFactory, bootstrapped: Layer, config: str, store: Path, undisturbed: dict[str, str]) -> None:
    """SIGKILL in the middle of every change that takes a while: apt, uv, a migration, a start, with three lists under way."""
    server = prepared(host(bootstrapped), config, store)
    kills = 0
    while killed_install(server, "during", "/root/killed").code == KILLED:
        kills += 1
        assert kills < 60
    names = server.read("/root/killed").decode().splitlines()
    print(f"{kills} kills: {names}")
    assert len(names) == kills
    assert {name.partition(":")[0] for name in names} >= {"packages", "environment", "schema", "service"}
    assert_same(server, undisturbed)


@pytest.mark.long  # not seen green since the modules moved
def test_stopped_with_ctrl_c(host: HostFactory, bootstrapped: Layer, config: str, store: Path) -> None:
    """Ctrl-C ends after what is in hand, says how to go on, and the next run does."""
    server = prepared(host(bootstrapped), config, store)
    running = server.popen(["mlflow-onprem", "install"])
    assert running.stderr is not None
    lines: list[str] = []
    for line in running.stderr:
        lines.append(line)
        if "user:minio created" in line:
            found = re.match(r"pid (\d+)", server.read("/run/mlflow-onprem.lock").decode())
            assert found
            server.run(["kill", "-INT", found[1]])
    assert running.wait() == 130
    said = "".join(lines)
    assert "stopping after what is in hand" in said
    assert "stopped before the end" in said
    assert "resume with: sudo mlflow-onprem install" in said
    assert "Traceback" not in said
    assert steps.leftovers(server) == []
    code, answer = steps.plan(server)
    assert code == 3
    assert answer["unchanged"] > 5
    assert server.run(["sh", "-c", "ps -eo args | grep -c '[a]pt-get\\|[u]v pip'"], ok=(0, 1)).out.strip() == "0", "nothing runs on behind the back"
    steps.install(server)
    assert steps.plan(server)[0] == 0
    assert steps.status(server)[0] == 0


@pytest.mark.long  # not seen green since the modules moved
@pytest.mark.parametrize(
    ("setting", "resource", "service"),
    [
        ({"mlflow": "workers = 1"}, "file:/etc/mlflow-onprem/mlflow.env", "mlflow"),
        ({"minio": "console_port = 9101"}, "file:/etc/mlflow-onprem/minio.env", "minio"),
    ],
    ids=["mlflow", "minio"],
)
def test_killed_between_a_setting_and_the_restart(host: HostFactory, config: str, setting: dict[str, str], resource: str, service: str) -> None:
    """The file is written, the run dies: the service still runs on the old one, and the next install restarts it and nothing else."""
    server = host()
    steps.install(server)
    server.push(KILLER, INSIDE)
    before = steps.running(server)
    server.write(product.CONFIG, steps.configured(config, **setting))
    assert killed_install(server, "after", resource).code == KILLED
    assert steps.running(server) == before
    assert [each["resource"] for each in steps.plan(server)[1]["changes"]] == [f"service:{service}.service"]
    assert steps.install(server)["changed"] == [f"service:{service}.service"]
    assert steps.restarted(before, steps.running(server)) == {service}


@pytest.mark.long  # not seen green since the modules moved
def test_killed_between_a_secret_and_the_restart(host: HostFactory) -> None:
    """The same for the store's root password, changed in credentials.json: the next install brings it into force."""
    server = host()
    steps.install(server)
    server.push(KILLER, INSIDE)
    path, old = "/etc/mlflow-onprem/credentials.json", steps.running(server)
    found = json.loads(server.read(path))
    server.write(path, json.dumps({**found, "minio_root_password": "another-password-of-the-store"}), mode=0o600)
    assert killed_install(server, "after", "file:/etc/mlflow-onprem/minio/root-password").code == KILLED
    assert steps.running(server) == old
    assert "service:minio.service" in steps.install(server)["changed"]
    assert steps.restarted(old, steps.running(server)) == {"minio"}
    assert steps.plan(server)[1]["changes"] == []
    assert steps.status(server)[0] == 0
