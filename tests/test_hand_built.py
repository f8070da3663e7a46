"""A hand-built server is known by its command line, whoever started it, and by what starts it again; everything else is left alone."""

from __future__ import annotations

import pytest

from mlflow_onprem.core.errors import Refused
from mlflow_onprem.core.host import Result
from mlflow_onprem.resources.old_starts import STOPPED, OldUnits, OldUnitsState, StartLines, StartLinesState, files_of, written_server
from mlflow_onprem.settings.config import Config
from mlflow_onprem.stack.adoption_checks import check_server, store_folders
from mlflow_onprem.system.hand_built import Ours, Server, called, is_server, look, options, running, starts_it, unit_of, without_password
from mlflow_onprem.system.systemd import Systemd
from tests.fakes import FakeHost

OURS = Ours(5000, "mlflow")
FOLDER = "/var/backups/mlflow-onprem/adoption-1"
SERVE = "/opt/ml/bin/mlflow server --backend-store-uri postgresql://mlflow_user:secret@localhost/mlflow --default-artifact-root s3://mlflow"


@pytest.mark.parametrize(
    ("command", "serves"),
    [
        ("/opt/mlflow/bin/python /opt/mlflow/bin/mlflow server --host 0.0.0.0", True),
        ("/home/ann/miniconda3/envs/ml/bin/python3.11 -m mlflow ui -p 5000", True),
        ("/opt/ml/bin/python /opt/ml/bin/gunicorn -b 0.0.0.0:5000 -w 4 mlflow.server:app", True),
        ("gunicorn: master [mlflow.server:app]", True),
        ("/opt/ml/bin/python /opt/ml/bin/gunicorn mlflow.server.auth:create_app()", True),
        ("python3 /opt/ml/bin/waitress-serve --host=0.0.0.0 --port=5000 mlflow.server:app", True),
        ("/opt/ml/bin/python -m uvicorn --host 0.0.0.0 --port 5000 mlflow.server.fastapi_app:app", True),
        ("/bin/bash -c cd /srv && mlflow server --port 5000", True),
        ("tmux new-session -d -s mlflow mlflow server", False),
        ("SCREEN -dmS mlflow mlflow server", False),
        ("vim /etc/systemd/system/mlflow server.txt", False),
        ("python3 -m http.server 5000", False),
        ("python train.py --uri http://mlflow/server", False),
        ("/opt/ml/bin/mlflow run .", False),
        ("/opt/mlflow-onprem/environments/current/bin/python -m mlflow_onprem_server", False),
    ],
)
def test_what_serves_mlflow(command: str, serves: bool) -> None:
    words = [command] if command.startswith("gunicorn:") else command.split()
    assert is_server(words) is serves


@pytest.mark.parametrize(
    ("group", "unit", "manager"),
    [
        ("0::/system.slice/tracking.service", "tracking.service", ""),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/track.service", "track.service", "user@1000.service"),
        ("0::/user.slice/user-0.slice/session-3.scope", "session-3.scope", ""),
        ("0::/system.slice/cron.service", "cron.service", ""),
        ("0::/", "", ""),
    ],
)
def test_what_a_process_is_part_of(group: str, unit: str, manager: str) -> None:
    assert unit_of(group) == (unit, manager)


def process(host: FakeHost, pid: int, command: str, group: str = "0::/", environment: str = "") -> None:
    host.put(f"/proc/{pid}/cmdline", command.replace(" ", "\0") + "\0")
    host.put(f"/proc/{pid}/cgroup", group)
    host.put(f"/proc/{pid}/environ", environment)


def test_only_what_holds_our_port_or_our_database_has_to_give_way() -> None:
    host = FakeHost()
    process(host, 10, f"/opt/ml/bin/python {SERVE} --port 8080", "0::/system.slice/tracking.service")
    process(
        host, 11, "/home/ann/bin/python /home/ann/bin/mlflow ui --backend-store-uri sqlite:///ann.db --port 5001", "0::/user.slice/session-2.scope"
    )
    process(host, 12, "/opt/ml/bin/python -m gunicorn -b 0.0.0.0:5000 mlflow.server:app", "0::/system.slice/docker-12.scope")
    found = running(host, OURS)
    assert [(each.pid, each.has_its_own_unit, each.keeper) for each in found] == [(10, True, ""), (12, False, "a container")]


def test_how_it_was_called_is_known_without_its_password() -> None:
    host = FakeHost()
    environment = "_MLFLOW_SERVER_ARTIFACT_DESTINATION=/srv/artifacts\0MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:9000\0"
    process(host, 10, f"/opt/ml/bin/python {SERVE} --app-name=basic-auth -p 5000", environment=environment)
    found = look(host, 10)
    assert found is not None
    server = called(host, [found])
    assert server.backend == "postgresql://mlflow_user@localhost/mlflow"
    assert (server.root, server.destination, server.endpoint) == ("s3://mlflow", "/srv/artifacts", "http://127.0.0.1:9000")
    assert (server.accounts, server.port) == ("default", 5000)
    assert "secret" not in repr(server.values())
    assert without_password("mysql+pymysql://root:pw@db:3306/ml") == "mysql+pymysql://root@db:3306/ml"
    assert options(["sh", "-c", "gunicorn -w 2 mlflow.server:app"])["default_port"] == "8000"


def test_a_terminal_is_not_ended_with_the_server_in_it() -> None:
    host = FakeHost()
    host.put("/srv/start.sh", f"#!/bin/sh\nwhile true; do {SERVE}; sleep 5; done\n")
    process(host, 20, "tmux new-session -d -s mlflow /srv/start.sh")
    process(host, 21, "/bin/sh /srv/start.sh")
    process(host, 22, "-bash")
    assert [starts_it(host, pid) for pid in (20, 21, 22)] == [False, True, False]


def units(host: FakeHost) -> None:
    host.mkdir(FOLDER, mode=0o711, owner="root", group="root")

    def systemctl(_call: object) -> Result:
        return Result(0, "", "")

    host.programs["systemctl"] = systemctl
    host.programs["id"] = lambda _call: Result(0, "1000\n", "")
    host.put("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/bash\n")
    host.put("/etc/systemd/system/tracking.service", f"[Service]\nExecStart={SERVE} \\\n  --port 5000\n")
    host.put("/etc/systemd/system/tracking.service.d/override.conf", "[Service]\nRestart=always\n")
    host.put("/etc/systemd/system/other.service", "[Service]\nExecStart=/usr/bin/other server\n")
    host.put("/etc/systemd/system/dev.service", "[Service]\nExecStart=/opt/ml/bin/mlflow ui --port 5009 --backend-store-uri sqlite:///dev.db\n")
    host.put("/home/ann/start.sh", f"#!/bin/sh\nexec {SERVE}\n")
    host.put("/home/ann/.config/systemd/user/ml.service", "[Service]\nExecStart=/home/ann/start.sh\n")
    host.put("/home/ann/.config/systemd/user/default.target.wants/ml.service", "")


def test_units_of_any_name_are_kept_aside_and_gone() -> None:
    host = FakeHost()
    units(host)
    resource = OldUnits(Systemd(host, ()), FOLDER, OURS)
    have = resource.observe(host)
    assert have == OldUnitsState(("tracking.service", "ann's ml.service"))
    assert "/etc/systemd/system/tracking.service.d/override.conf" in files_of(host, OURS)
    resource.apply(host, have)
    assert resource.observe(host) == resource.want
    assert SERVE in (host.read(f"{FOLDER}/etc_systemd_system_tracking.service") or b"").decode()
    assert host.read(f"{FOLDER}/home_ann_.config_systemd_user_ml.service") is not None
    assert host.read("/home/ann/.config/systemd/user/default.target.wants/ml.service") is None
    for left in ("/etc/systemd/system/other.service", "/etc/systemd/system/dev.service"):
        assert host.read(left) is not None, "another program, and an MLflow that is not on our port"


def test_lines_that_start_it_become_comments_and_all_others_stay() -> None:
    host = FakeHost()
    host.put("/home/ann/start.sh", f"#!/bin/sh\n{SERVE}\n")
    watchdog = "*/5 * * * * pgrep -f 'mlflow server' || /home/ann/start.sh"
    tab = f"# mine\nMAILTO=ann\n@reboot /home/ann/start.sh >/dev/null 2>&1\n{watchdog}\n0 3 * * * backup\n"
    host.mkdir(FOLDER, mode=0o711, owner="root", group="root")
    host.put("/var/spool/cron/crontabs/ann", tab, mode=0o600, owner="ann", group="crontab")
    host.put("/etc/rc.local", f"#!/bin/sh -e\n{SERVE} &\nexit 0\n", mode=0o755)
    resource = StartLines(FOLDER, OURS)
    have = resource.observe(host)
    assert have == StartLinesState(("/etc/rc.local (1 line)", "/var/spool/cron/crontabs/ann (2 lines)"))
    server = written_server(host, OURS)
    assert server is not None
    assert server.backend == "postgresql://mlflow_user@localhost/mlflow"
    resource.apply(host, have)
    assert resource.observe(host) == resource.want
    text = (host.read("/var/spool/cron/crontabs/ann") or b"").decode()
    assert text.replace(STOPPED, "") == tab
    assert text.count(STOPPED) == 2
    found = host.stat("/var/spool/cron/crontabs/ann")
    assert found is not None
    assert (found.mode, found.owner, found.group) == (0o600, "ann", "crontab")
    assert host.read(f"{FOLDER}/var_spool_cron_crontabs_ann") == tab.encode()


@pytest.mark.parametrize(
    ("backend", "says", "hint"),
    [
        ("mysql+pymysql://ml@db/ml", "MySQL", '"MySQL"'),
        ("sqlite:////srv/gone.db", "there is no file /srv/gone.db", "start it where its file is"),
        ("", "files (mlruns, started in /srv)", '"Files"'),
        ("./mlruns", "files (./mlruns, started in /srv)", "[mlflow] port"),
        ("postgresql://mlflow_user@localhost/tracking", "[postgres] database is mlflow", 'database = "tracking"'),
        ("postgresql+psycopg2://mlflow_user@127.0.0.1:5433/mlflow", "[postgres] port is 5432", "port = 5433"),
        ("postgresql://ml@localhost/mlflow", "belong to the role ml", 'user = "ml"'),
        ("postgresql://mlflow_user@db.example.com/mlflow", "on db.example.com", 'mode = "external"'),
    ],
)
def test_runs_that_are_elsewhere_are_named_with_the_line_to_set(backend: str, says: str, hint: str) -> None:
    with pytest.raises(Refused) as refused:
        check_server(FakeHost(), Server(backend=backend, folder="/srv"), Config(), tables=False)
    assert says in refused.value.message
    assert hint in refused.value.hint
    check_server(FakeHost(), Server(backend="postgresql://mlflow_user@localhost:5432/mlflow"), Config(), tables=True)


def test_folders_of_a_store() -> None:
    assert store_folders(("minio", "server", "--address", ":9000", "/mnt/data", "--console-address", ":9001")) == ["/mnt/data"]
    assert store_folders(("minio", "--quiet", "server", "--address=:9000", "/mnt/a", "/mnt/b")) == ["/mnt/a", "/mnt/b"]
    assert store_folders(("minio", "server")) == []
