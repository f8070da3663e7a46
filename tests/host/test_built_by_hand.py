"""MLflow as people start it by hand: units of any name, a user's own unit, cron, gunicorn, SQLite, accounts, artifacts on the disk."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, layers, product
from uv import find_uv_bin

from mlflow_onprem.doctor.smoke_test import Rest
from tests.host import article, rest, steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
SERVED = "_MLFLOW_SERVER_FILE_STORE=postgresql://mlflow_user:password@127.0.0.1:5432/mlflow _MLFLOW_SERVER_ARTIFACT_ROOT=s3://mlflow/"
UNIT = f"""\
[Unit]
Description=our experiments
After=postgresql.service minio.service

[Service]
WorkingDirectory=/root
Environment={SERVED} MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:9000 AWS_ACCESS_KEY_ID=minioadmin AWS_SECRET_ACCESS_KEY=minioadmin
ExecStart=/opt/mlflow/bin/gunicorn --bind 0.0.0.0:5000 --workers 2 mlflow.server:app
Restart=always

[Install]
WantedBy=multi-user.target
"""
USERS_UNIT = """\
[Service]
ExecStart=/bin/sh -c 'sleep 5; exec /opt/mlflow/bin/mlflow server --port 5000 --backend-store-uri sqlite:////home/ann/old.db'
Restart=always

[Install]
WantedBy=default.target
"""
START = """\
#!/bin/sh
cd /home/ann/track
export MLFLOW_FLASK_SERVER_SECRET_KEY=a-key-for-sessions
while true; do
  /opt/mlflow/bin/mlflow server --host 0.0.0.0 --port 8080 --app-name basic-auth \\
    --backend-store-uri sqlite:///mlflow.db --artifacts-destination ./served --workers 1
  sleep 1
done
"""
CRONTAB = '# ann\'s\nMAILTO=""\n@reboot /home/ann/start.sh >/home/ann/log 2>&1\n17 3 * * * /usr/bin/true\n'
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


@pytest.fixture
def hand_built(host: HostFactory, base: Layer, store: Path) -> Sandbox:
    """The article's database and store, its MLflow installed and not started."""
    key = f"article-{hashlib.sha256(json.dumps([base.key, article.OLD_MLFLOW, article.MINIO_UNIT]).encode()).hexdigest()[:12]}"
    with layers.locked("build"):
        layer = product.kept_layer(key, base, lambda server: article.build(server, store), lambda _: None)
    server = host(layer)
    server.run(["useradd", "--create-home", "--shell", "/bin/bash", "ann"])
    return server


def answers(server: Sandbox, port: int) -> bool:
    ask = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{port}/health', timeout=2)"
    return server.run(["/opt/mlflow/bin/python", "-c", ask], ok=steps.ANY).code == 0


def old_servers(server: Sandbox) -> list[str]:
    """Command lines of everything that runs out of the old environment."""
    return [line for line in server.run(["ps", "-eo", "args", "--no-headers"]).out.splitlines() if "/opt/mlflow/" in line]


@pytest.mark.long
def test_units_of_any_name_give_way_for_good(hand_built: Sandbox, config: str, store: Path) -> None:
    """A system unit with gunicorn serves; a user's unit and a line of cron would start others after the next boot."""
    server = hand_built
    server.write("/etc/systemd/system/tracking.service", UNIT)
    server.write("/etc/systemd/system/tracking.service.d/quick.conf", "[Service]\nRestartSec=1\n")
    server.run(["systemctl", "daemon-reload"])
    server.run(["systemctl", "enable", "--now", "tracking"])
    server.write(
        "/etc/cron.d/tracking", "@reboot root /opt/mlflow/bin/mlflow server --backend-store-uri postgresql://mlflow_user:password@localhost/mlflow\n"
    )
    units = "/home/ann/.config/systemd/user"
    server.run(["install", "-d", "-o", "ann", "-g", "ann", units, f"{units}/default.target.wants", "/var/lib/systemd/linger"])
    server.write(f"{units}/ml.service", USERS_UNIT)
    server.run(["ln", "-s", f"{units}/ml.service", f"{units}/default.target.wants/ml.service"])
    server.run(["touch", "/var/lib/systemd/linger/ann"])
    steps.until(lambda: answers(server, 5000), "the old MLflow serves", 120)
    logged = article.work(server)
    product.bootstrap(server, product.checkout(), lambda _: None)
    product.configure(server, config, store)

    plan = server.run(["mlflow-onprem", "plan"], ok=(3,)).out
    for words in ("tracking.service, ann's ml.service: stopped and disabled", "lines that started MLflow in /etc/cron.d/tracking are comments now"):
        assert words in plan, plan
    assert "password@" not in plan, "what the old unit holds is nobody's to read in a plan"
    server.run(["mlflow-onprem", "install"], timeout=1800)
    folder = server.run(["sh", "-c", "echo /var/backups/mlflow-onprem/adoption-*"]).out.strip()
    assert server.read(f"{folder}/etc_systemd_system_tracking.service").decode() == UNIT
    assert server.run(["systemctl", "cat", "tracking"], ok=steps.ANY).code != 0

    server.reboot()
    steps.until(lambda: steps.status(server)[0] == 0, "ours serves after a reboot", 180)
    assert old_servers(server) == []
    steps.assert_as_wanted(server)
    door = rest.door(server)
    for each in logged:
        run = door.call("GET", "runs/get", {"run_id": each["run_id"]})["run"]
        path = run["info"]["artifact_uri"].partition(":")[2].lstrip("/")
        content = door.send("GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}/inputs/data.bin").content
        assert hashlib.sha256(content).hexdigest() == each["sha256"]


@pytest.mark.long
def test_sqlite_accounts_and_a_folder_of_artifacts_come_along(hand_built: Sandbox, config: str, store: Path) -> None:
    """Started by a user's cron, on port 8080, with accounts: all of it is in PostgreSQL and in the bucket afterwards."""
    server = hand_built
    server.run(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", "cron"], env=QUIET, timeout=600)
    server.push(Path(find_uv_bin()), "/usr/local/bin/uv")
    server.run(["/usr/local/bin/uv", "pip", "install", "--quiet", "--python", "/opt/mlflow/bin/python", "flask-wtf"], timeout=600)
    server.run(["install", "-d", "-o", "ann", "-g", "ann", "/home/ann/track"])
    server.write("/home/ann/start.sh", START, mode=0o755)
    server.run(["crontab", "-u", "ann", "-"], stdin=CRONTAB)
    server.reboot()
    steps.until(lambda: answers(server, 8080), "cron starts the old MLflow", 180)
    server.push(Path(__file__).with_name("own_server.py"), "/home/ann/own_server.py")
    administrator = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:8080", "MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "password1234"}
    made = server.run(["/opt/mlflow/bin/python", "/home/ann/own_server.py"], user="ann", env={**administrator, "HOME": "/home/ann"}, timeout=600).out
    logged = json.loads(made.splitlines()[-1])
    product.bootstrap(server, product.checkout(), lambda _: None)
    product.configure(server, f"{config}\n[mlflow]\nport = 8080\n", store)
    assert "everybody could read it" in server.run(["mlflow-onprem", "install"], ok=(1,)).err, "what was private would not be private"
    product.configure(server, f'{config}\n[mlflow]\nport = 8080\n[mlflow.auth]\ndefault_permission = "NO_PERMISSIONS"\n', store)

    plan = server.run(["mlflow-onprem", "plan"], ok=(3,)).out
    for words in (
        "lines that started MLflow in /var/spool/cron/crontabs/ann are comments now", "runs come from /home/ann/track/mlflow.db (SQLite)",
        "accounts and permissions come from /home/ann/track/basic_auth.db, passwords included: admin, bob",
        "artifacts in /home/ann/track/served are copied", "artifacts in /home/ann/track/mlruns/77 are copied",
    ):  # fmt: skip
        assert words in plan, plan
    installed = server.run(["mlflow-onprem", "install"], timeout=1800).out
    assert "the account admin had the password of MLflow's documentation" in installed
    server.reboot()
    steps.until(lambda: steps.status(server)[0] == 0, "ours serves after a reboot", 180)
    assert old_servers(server) == []
    steps.assert_as_wanted(server)
    assert server.run(["crontab", "-u", "ann", "-l"]).out.replace("# stopped by mlflow-onprem, which serves it now: ", "") == CRONTAB

    url = rest.door(server).url
    ours, bob, stale = rest.door(server), Rest(url, ("bob", "bobs-long-password")), Rest(url, ("admin", "password1234"))
    assert stale.send("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0").status_code == 401
    assert bob.send("GET", f"/api/2.0/mlflow/runs/get?run_id={logged[1]['run']}").status_code == 403, "what was private is private"
    for each, who in ((logged[0], bob), (logged[0], ours), (logged[1], ours), (logged[2], ours)):
        run = who.call("GET", "runs/get", {"run_id": each["run"]})["run"]
        metrics = {metric["key"]: metric["value"] for metric in run["data"]["metrics"]}
        assert (metrics["loss"], run["data"]["params"]) == (0.5, [{"key": "rate", "value": each["name"]}])
        path = run["info"]["artifact_uri"].partition(":")[2].lstrip("/")
        content = who.send("GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}/deep/er/größe 1.bin").content
        assert hashlib.sha256(content).hexdigest() == each["sha256"], each["name"]
    assert rest.is_there(server, rest.log(server))
    created = bob.call("POST", "experiments/create", {"name": "made afterwards"})
    assert int(created["experiment_id"]) > max(int(each["experiment"]) for each in logged)
    server.run(["mlflow-onprem", "user", "add", "eve"], stdin="a-long-password-of-eves\n")
    doctor = json.loads(server.run(["mlflow-onprem", "doctor", "--json"], ok=(0, 4), timeout=300).out)
    assert [each for each in doctor["findings"] if each["level"] == "error"] == []
    for kept in ("/home/ann/track/mlflow.db", "/home/ann/track/basic_auth.db", f"/home/ann/track/mlruns/77/{logged[2]['run']}"):
        assert server.run(["test", "-e", kept]).code == 0, "what was there stays"
