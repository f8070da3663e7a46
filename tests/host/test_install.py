"""What is true of a plain server after `install`, and stays true when it is run again, rebooted, or set differently."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, product

from tests.host import steps
from tests.host.conftest import HostFactory
from tests.host.steps import UNITS

pytestmark = pytest.mark.host
OURS = {"minio.service": "minio", "mlflow.service": "mlflow"}


@pytest.fixture(scope="module")
def server(module_host: HostFactory, bootstrapped: Layer, config: str, store: Path) -> Sandbox:
    """A server on which `install` ran once, from nothing, in this test run."""
    made = module_host(bootstrapped)
    product.configure(made, config, store)
    before = steps.plan(made)
    assert before[0] == 3, "a plan of a plain server has changes"
    report = steps.install(made)
    planned = {each["resource"].partition(":")[0] for each in before[1]["changes"]}
    assert {name.partition(":")[0] for name in report["changed"]} <= planned, "install changes what plan named, and nothing else"
    return made


def test_three_services_run_and_none_as_root(server: Sandbox) -> None:
    """Store, database and MLflow are active, start at boot, come back after a crash, and run under accounts of their own."""
    for unit, account in zip(UNITS, ("minio", "postgres", "mlflow"), strict=True):
        found = steps.show(server, unit, "ActiveState", "Restart", "RestartUSec", "LimitNOFILE", "MainPID", "Type", "UnitFileState")
        assert (found["ActiveState"], found["Restart"], found["LimitNOFILE"]) == ("active", "always", "65536"), unit
        assert found["RestartUSec"] == "2s"
        if unit in OURS:
            assert (found["Type"], found["UnitFileState"]) == ("notify", "enabled")
        group = steps.show(server, unit, "ControlGroup")["ControlGroup"]
        pids = server.run(["sh", "-c", f"cat /sys/fs/cgroup{group}/cgroup.procs || cat /sys/fs/cgroup/systemd{group}/cgroup.procs"]).out.split()
        assert pids
        assert set(server.run(["ps", "-o", "user=", "-p", ",".join(pids)]).out.split()) == {account}
    assert steps.show(server, "postgresql.service", "UnitFileState")["UnitFileState"] == "enabled"
    code, answer = steps.status(server)
    assert (code, answer["healthy"]) == (0, True)


def test_the_units_are_confined(server: Sandbox) -> None:
    """systemd's own judge gives at most 1.5 (0 best, 10 worst) to the two units that are ours."""
    for unit in OURS:
        text = server.run(["systemd-analyze", "security", "--no-pager", unit]).out
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", text)
        assert found
        assert float(found[1]) <= 1.5, text


def test_the_store_has_no_well_known_root(server: Sandbox) -> None:
    """minioadmin opens nothing, and without its secrets the store does not start instead of starting with minioadmin."""
    check = (
        "import sys; from minio import Minio; from minio.error import S3Error\n"
        "client = Minio(endpoint='127.0.0.1:9000', access_key='minioadmin', secret_key='minioadmin', secure=False)\n"
        "try:\n    client.list_buckets()\nexcept S3Error as refused:\n    print(refused.code)\n"
    )
    assert server.run(["/opt/mlflow-onprem/cli/bin/python", "-I", "-c", check]).out.strip() == "InvalidAccessKeyId"
    folder = "/etc/mlflow-onprem/minio"
    for damage in (": > root-user; : > root-password", "rm root-user root-password"):
        server.run(["sh", "-ec", f"cp -a {folder} /root/kept; cd {folder}; {damage}"])
        try:
            server.run(["systemctl", "restart", "minio.service"], ok=steps.ANY)
            assert steps.show(server, "minio.service", "ActiveState")["ActiveState"] != "active", damage
        finally:
            server.run(["sh", "-ec", f"cp -a /root/kept/. {folder}/; rm -r /root/kept"])
    server.run(["systemctl", "restart", "minio.service"])
    steps.install(server)


def test_files_are_for_whom_they_must_be(server: Sandbox) -> None:
    """Secrets are readable by one account each, and the folders that hold data are closed to the rest."""
    listing = server.run(["find", "/etc/mlflow-onprem", "-type", "f", "-printf", "%m %u %p\n"]).out.splitlines()
    modes = {path: (mode, owner) for mode, owner, path in (line.split(" ", 2) for line in listing)}
    for path, (mode, owner) in modes.items():
        if path.endswith(("credentials.json",)):
            assert (mode, owner) == ("600", "root"), path
        elif "/minio/" in path or ("/mlflow/" in path and not path.endswith("auth.ini")):
            assert (mode, owner) == ("600", path.split("/")[3]), path
    assert {"/etc/mlflow-onprem/credentials.json", "/etc/mlflow-onprem/minio/root-password", "/etc/mlflow-onprem/mlflow/s3-credentials"} <= set(modes)
    folders = {"/etc/mlflow-onprem/minio": "750 minio", "/etc/mlflow-onprem/mlflow": "750 mlflow", "/opt/minio/data": "750 minio"}
    for path, wanted in {**folders, "/var/lib/mlflow": "700 mlflow", "/var/lib/mlflow-onprem/stamps": "700 root"}.items():
        assert server.run(["stat", "-c", "%a %G", path]).out.strip() == wanted, path
    assert steps.leftovers(server) == []


def test_no_secret_shows_anywhere(server: Sandbox) -> None:
    """The values of credentials.json stand in no environment, command line, unit or journal, and in no file that others may read."""
    found = json.loads(server.read("/etc/mlflow-onprem/credentials.json"))
    values = [value for name, value in found.items() if isinstance(value, str) and name.endswith(("password", "key", "passphrase"))]
    secrets = [value for value in values if value != found["s3_access_key"]]
    assert len(secrets) >= 7
    server.write("/root/secrets", "".join(f"{value}\n" for value in secrets), mode=0o600)
    grep = "grep -a -l -F -f /root/secrets"
    everybody = "find /etc /opt /var /run /tmp /usr/local -xdev -type f -perm -o=r -not -path '*/site-packages/*' -print0"
    places = {
        "environments": f"cat /proc/[0-9]*/environ 2>/dev/null | {grep} -",
        "command lines": f"cat /proc/[0-9]*/cmdline 2>/dev/null | {grep} -",
        "units": f"systemctl show '*.service' | {grep} -; {grep} -r /etc/systemd /run/systemd",
        "the journal": f"journalctl --no-pager -o verbose | {grep} -",
        "files for everybody": f"{everybody} | xargs -0 {grep}",
        "what commands print": f"(mlflow-onprem plan; mlflow-onprem plan --json; mlflow-onprem status; mlflow-onprem config show) 2>&1 | {grep} -",
    }
    try:
        # The same search does find what is there to be found.
        assert server.run(["sh", "-c", f"{grep} /etc/mlflow-onprem/credentials.json"]).out.strip()
        assert {place: server.run(["sh", "-c", f"({search}) || true"], timeout=120).out for place, search in places.items()} == dict.fromkeys(
            places, ""
        )
    finally:
        server.run(["rm", "/root/secrets"])


def test_the_store_and_the_database_keep_their_doors(server: Sandbox) -> None:
    """MLflow's key opens its bucket alone, its role is nobody's superuser and owns its databases, and passwords are SCRAM only."""
    roles = steps.psql(
        server, "SELECT rolsuper, rolcreaterole, rolcreatedb, rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'mlflow_user'"
    )
    assert roles == "f|f|f|t"
    owners = steps.psql(server, "SELECT datname, pg_get_userbyid(datdba) FROM pg_database WHERE datname LIKE 'mlflow%' ORDER BY 1")
    assert owners == "mlflow|mlflow_user\nmlflow_auth|mlflow_user"
    assert steps.psql(server, "SHOW listen_addresses") == "localhost"
    peer = server.run(["psql", "-qtA", "-U", "mlflow_user", "-d", "mlflow", "-c", "SELECT 1"], user="mlflow").out
    assert peer.strip() == "1", "MLflow's account needs no password on the socket"
    assert server.run(["psql", "-U", "mlflow_user", "-d", "mlflow", "-c", "SELECT 1"], user="minio", ok=steps.ANY).code == 2
    found = json.loads(server.read("/etc/mlflow-onprem/credentials.json"))
    check = (
        "import json, sys; from minio import Minio; from minio.error import S3Error\n"
        "key, secret = json.load(sys.stdin)\n"
        "client = Minio(endpoint='127.0.0.1:9000', access_key=key, secret_key=secret, secure=False)\n"
        "print([each.bucket_name if hasattr(each, 'bucket_name') else each.name for each in client.list_buckets()])\n"
        "for act in (lambda: client.make_bucket(bucket_name='other'), lambda: client.bucket_exists(bucket_name='other')):\n"
        "    try:\n        act(); print('open')\n    except S3Error as refused:\n        print(refused.code)\n"
    )
    argv = ["/opt/mlflow-onprem/cli/bin/python", "-I", "-c", check]
    answers = server.run(argv, stdin=json.dumps([found["s3_access_key"], found["s3_secret_key"]])).out.splitlines()
    assert answers == ["['mlflow']", "AccessDenied", "AccessDenied"]


def test_a_second_install_changes_nothing(server: Sandbox) -> None:
    """0 changed, and every service is the very same process of the very same start."""
    before = steps.running(server)
    report = steps.install(server)
    assert report["changed"] == []
    assert report["unchanged"] > 40
    assert steps.running(server) == before
    code, answer = steps.plan(server)
    assert (code, answer["changes"], answer["hidden"]) == (0, [], [])


def test_plan_and_status_need_no_root(server: Sandbox, module_host: HostFactory, bootstrapped: Layer) -> None:
    """Anybody may ask: what only root can see is named as hidden, and a plain server's plan is full."""
    code, answer = steps.plan(server, user="nobody")
    assert (code, answer["changes"]) == (0, [])
    assert "file:/etc/mlflow-onprem/credentials.json" in answer["hidden"]
    assert any(name.startswith("bucket:") for name in answer["hidden"])
    assert answer["unchanged"] > 20
    assert steps.status(server, user="nobody")[0] == 0
    plain = module_host(bootstrapped)
    code, answer = steps.plan(plain, user="nobody")
    assert code == 3
    assert any(each["action"] == "create" and each["resource"].startswith("packages:") for each in answer["changes"])
    assert steps.status(plain, user="nobody")[0] == 4
    for command in ("install", "plan"):
        assert plain.run(["mlflow-onprem", command], user="nobody", ok=steps.ANY).code == {"install": 1, "plan": 3}[command]
    assert plain.run(["ls", "/etc/mlflow-onprem"], ok=steps.ANY).code == 2, "asking leaves no trace"


def test_a_reboot_brings_everything_back(server: Sandbox) -> None:
    """After `systemctl reboot` all three services come up by themselves, with what they held."""
    steps.psql(server, "CREATE TABLE IF NOT EXISTS kept AS SELECT 42 AS answer", "mlflow")
    before = steps.running(server)
    server.reboot()
    steps.until(lambda: steps.status(server)[0] == 0, "the stack is up after a reboot", 60)
    assert steps.restarted(before, steps.running(server)) == {"minio", "postgresql", "mlflow"}
    assert steps.psql(server, "SELECT answer FROM kept", "mlflow") == "42"
    steps.psql(server, "DROP TABLE kept", "mlflow")
    assert steps.install(server)["changed"] == []


@pytest.mark.parametrize(
    ("section", "line", "wanted"),
    [
        ("mlflow", "workers = 1", {"mlflow"}),
        ("minio", "console_port = 9101", {"minio"}),
        ("auth", 'default_permission = "NO_PERMISSIONS"', {"mlflow"}),
        ("postgres", 'allowed_networks = ["10.0.0.0/8"]', {"postgresql"}),
    ],
    ids=["workers", "console port", "accounts", "networks of the database"],
)
def test_a_change_restarts_only_what_it_must(server: Sandbox, config: str, section: str, line: str, wanted: set[str]) -> None:
    """A setting of one service restarts that one and no other, and taking it back does too."""
    steps.install(server, config)
    before = steps.running(server)
    report = steps.install(server, steps.configured(config, **{section: line}))
    assert report["changed"]
    assert steps.restarted(before, steps.running(server)) == wanted
    assert steps.plan(server)[0] == 0
    assert steps.status(server)[0] == 0


def test_another_network_for_the_database_restarts_nothing(server: Sandbox, config: str) -> None:
    """A second network in allowed_networks is a reload of PostgreSQL: nobody's connection is cut."""
    steps.install(server, steps.configured(config, postgres='allowed_networks = ["10.0.0.0/8"]'))
    before = steps.running(server)
    report = steps.install(server, steps.configured(config, postgres='allowed_networks = ["10.0.0.0/8", "172.16.0.0/12"]'))
    assert {name.partition(":")[0] for name in report["changed"]} == {"block", "settings"}
    assert steps.running(server) == before
    assert "172.16.0.0" in steps.psql(server, "SELECT address FROM pg_hba_file_rules WHERE address = '172.16.0.0'")
    steps.install(server, config)
