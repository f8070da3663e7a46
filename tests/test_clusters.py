"""PostgreSQL's clusters: what their files say, and which of them is the one to use."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mlflow_onprem.clients.sql import SqlError
from mlflow_onprem.clients.sql_child import place
from mlflow_onprem.core.errors import CommandFailed, OnPremError
from mlflow_onprem.core.host import Result
from mlflow_onprem.resources.cluster import ClusterState, PostgresCluster
from mlflow_onprem.resources.database import create_statement
from mlflow_onprem.settings import facts
from mlflow_onprem.settings.facts import Chosen
from mlflow_onprem.system import clusters
from mlflow_onprem.system.systemd import Systemd
from tests.fake_machine import FACTS, Machine, config
from tests.fake_services import add_account
from tests.fakes import FakeHost

FIXTURES = Path(__file__).parent / "fixtures"
MAIN = "/etc/postgresql/15/main"


def machine(**confs: str) -> FakeHost:
    """A Debian 12 with clusters: `main="port = 5433"` is 15/main."""
    host = FakeHost()
    host.put("/etc/os-release", (FIXTURES / "os-release-bookworm.txt").read_text())
    for name, text in confs.items():
        host.put(f"/etc/postgresql/15/{name}/postgresql.conf", text)
    return host


def chosen(host: FakeHost, port: int = 5432, wanted: int | None = None) -> tuple[str, bool, bool]:
    found: Chosen = facts.choose(host, config({"postgres": {"version": wanted, "port": port}}))
    return found.cluster.label, found.shared, found.made


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ((FIXTURES / "postgresql-debian.conf").read_text(), 5432),
        ((FIXTURES / "postgresql-sample.conf").read_text(), 5432),
        ("port = 5433\t# ours\n", 5433),
        ("  port=5434\n", 5434),
        ("port 5435\n", 5435),
        ("PORT = '5436'\n", 5436),
        ("port = 5433\n#port = 1\nport = 5437\n", 5437),
        ("export_port = 1\nssl_port = 2\n", 5432),
        ("", 5432),
    ],
)
def test_the_port_of_a_cluster(text: str, port: int) -> None:
    [found] = clusters.every(machine(main=text))
    assert found.port == port


def test_files_are_read_in_postgresqls_order() -> None:
    host = machine(main="port = 1\ninclude_dir = 'conf.d'\ninclude_if_exists = '../shared.conf'\nssl = on\n")
    host.put(f"{MAIN}/conf.d/10-site.conf", "port = 2\nlog_timezone = 'Europe/Paris'\n")
    host.put(f"{MAIN}/conf.d/ignored.txt", "port = 9\n")
    assert clusters.every(host)[0].port == 2
    host.put("/etc/postgresql/15/shared.conf", "port = 3\ndata_directory = '/srv/it''s'\n")
    host.put("/srv/it's/postgresql.auto.conf", "listen_addresses = '*'\n")
    [found] = clusters.every(host)
    assert (found.port, found.data, found.ssl, found.log_timezone) == (3, "/srv/it's", True, "Europe/Paris")
    host.put("/srv/it's/postgresql.auto.conf", "port = '4'\n")
    assert clusters.every(host)[0].port == 4, "ALTER SYSTEM is read last"


def test_files_of_a_cluster_may_be_elsewhere() -> None:
    host = machine(main="hba_file = '/srv/pg_hba.conf'\nunix_socket_directories = '/tmp, /run/postgresql'\n")
    host.symlink(f"{MAIN}/pg_ident.conf", "../../../srv/ident.conf")
    host.put(f"{MAIN}/start.conf", "# comment\n\nmanual  # by hand\n")
    [found] = clusters.every(host)
    assert (found.hba, found.start, found.sockets) == ("/srv/pg_hba.conf", "manual", ("/tmp", "/run/postgresql"))
    assert found.ident.endswith("/srv/ident.conf")
    assert found.ident != f"{MAIN}/pg_ident.conf"


@pytest.mark.parametrize(
    ("conf", "more", "place", "block"),
    [
        ("include_dir = 'conf.d'\n", {}, "conf.d/90-mlflow-onprem.conf", False),
        ("include_dir = '/etc/postgresql/15/main/conf.d'\n", {}, "conf.d/90-mlflow-onprem.conf", False),
        ("port = 5432\n", {}, "90-mlflow-onprem.conf", True),
        ("include_dir = 'conf.d'\nwal_level = logical\n", {}, "conf.d/90-mlflow-onprem.conf", False),
        ("include_dir = 'conf.d'\nmax_connections = 20\n", {}, "conf.d/90-mlflow-onprem.conf", True),
        ("include_dir = 'conf.d'\n", {"conf.d/99-tuned.conf": "max_connections = 20\n"}, "conf.d/90-mlflow-onprem.conf", True),
    ],
    ids=["debian", "absolute", "no include_dir", "a setting that is not ours", "ours again below", "ours again in a later file"],
)
def test_our_settings_count_whatever_else_the_files_say(conf: str, more: dict[str, str], place: str, block: bool, tmp_path: Path) -> None:
    this = Machine(tmp_path)
    add_account(this.host, "postgres", "/var/lib/postgresql", "/bin/bash")
    this.host.put(f"{MAIN}/postgresql.conf", conf)
    for name in ("pg_hba.conf", "pg_ident.conf"):
        this.host.put(f"{MAIN}/{name}", "")
    for name, text in more.items():
        this.host.put(f"{MAIN}/{name}", text)

    def stack() -> list[str]:
        [cluster] = clusters.every(this.host)
        made = this.stack(this.config(), facts=dataclasses.replace(FACTS, cluster=cluster))
        for each in made:
            if "/etc/postgresql/" in each.name:
                each.apply(this.host, each.observe(this.host))
        return [each.name for each in made if each.name.startswith(("file:/etc/postgresql/", "block:/etc/postgresql/"))]

    names = stack()
    assert f"file:{MAIN}/{place}" in names
    assert (f"block:{MAIN}/postgresql.conf" in names) is block
    assert stack() == names, "what we wrote changes nothing of what we find"
    [cluster] = clusters.every(this.host)
    assert cluster.port == 5432
    text = (this.host.read(f"{MAIN}/postgresql.conf") or b"").decode()
    assert text.startswith(conf)
    assert text.rstrip().endswith("# <<< mlflow-onprem <<<") is block


def test_which_cluster_is_ours_to_use() -> None:
    assert chosen(machine()) == ("15/main", False, True), "none: one is made"
    assert chosen(machine(main="")) == ("15/main", True, False), "it was there before us"
    assert chosen(machine(prod="port = 5432", main="port = 5433")) == ("15/prod", True, False), "the port says which, not the name"
    assert chosen(machine(main="port = 5433")) == ("15/mlflow", False, True), "theirs keeps its port and name"
    left = machine()
    left.put("/var/lib/postgresql/15/main/PG_VERSION", "15\n")
    assert chosen(left) == ("15/main", True, False), "data whose configuration is gone are not ours"


@pytest.mark.parametrize(
    ("note", "confs", "port", "found"),
    [
        ("ours\n", {"main": ""}, 5432, ("15/main", False, False)),
        ("ours 15/main made\n", {"main": ""}, 5555, ("15/main", False, True)),
        ("ours 15/main made\n", {"main": "", "wiki": "port = 5433"}, 5433, ("15/main", False, True)),
        ("ours 15/mlflow made\n", {"main": "port = 5433", "mlflow": ""}, 5432, ("15/mlflow", False, True)),
        ("ours 15/mlflow made\n", {"main": "port = 5433"}, 5432, ("15/mlflow", False, True)),
        ("shared 15/main\n", {"main": ""}, 5432, ("15/main", True, False)),
        ("shared 15/main\n", {"main": "port = 5433"}, 5432, ("15/main", True, False)),
        ("shared 15/main\n", {}, 5432, ("15/main", False, True)),
    ],
)
def test_an_earlier_run_is_remembered(note: str, confs: dict[str, str], port: int, found: tuple[str, bool, bool]) -> None:
    host = machine(**confs)
    host.put(facts.CLUSTER_NOTE, note)
    assert chosen(host, port) == found


def test_postgresqls_own_upgrade_takes_the_note_along() -> None:
    host = machine(main="port = 5433")
    host.put("/etc/postgresql/17/main/postgresql.conf", "port = 5432\n")
    host.put(facts.CLUSTER_NOTE, "ours 15/main made\n")
    assert chosen(host) == ("17/main", False, True)


def test_after_it_the_cluster_that_starts_by_itself_is_ours() -> None:
    """pg_upgradecluster copies our file with the port in it, and sets the old cluster to manual."""
    host = machine(main="port = 5432")
    host.put("/etc/postgresql/15/main/start.conf", "manual\n")
    host.put("/etc/postgresql/17/main/postgresql.conf", "port = 5432\n")
    host.put("/etc/postgresql/17/main/start.conf", "auto\n")
    host.put(facts.CLUSTER_NOTE, "ours 15/main made\n")
    assert chosen(host) == ("17/main", False, True)


# making one ----------------------------------------------------------------------------------------------------------


def test_a_missing_cluster_is_made_and_started(tmp_path: Path) -> None:
    """create_main_cluster = false, or apt's own attempt failed."""
    this = Machine(tmp_path)
    this.apt.makes_cluster = False
    changed = this.changed(this.config())
    assert {"cluster:15/main", "service:postgresql@15-main.service"} <= changed
    [made] = [call.argv for call in this.host.calls if call.argv[0] == "pg_createcluster"]
    assert made[1:] == ("--port", "5432", "--start-conf", "auto", "--locale", "C.UTF-8", "--encoding", "UTF8", "15", "main")
    assert this.changed(this.config()) == set()


def test_data_that_are_there_are_taken_up_as_they_are(tmp_path: Path) -> None:
    this = Machine(tmp_path)
    this.apt.makes_cluster = False
    this.host.put("/var/lib/postgresql/15/main/PG_VERSION", "15\n")
    this.converge(this.config())
    [made] = [call.argv for call in this.host.calls if call.argv[0] == "pg_createcluster"]
    assert "--locale" not in made


def test_a_full_disk_is_said() -> None:
    host = machine()
    host.programs["pg_createcluster"] = lambda _: Result(1, "", "initdb: error: No space left on device\nError: initdb failed\n")
    new = PostgresCluster(clusters.planned(15), 5432, ClusterState("auto"), Systemd(host, ()))
    with pytest.raises(OnPremError, match="the disk is full") as caught:
        new.apply(host, None)
    assert "df -h /var/lib/postgresql" in caught.value.hint
    host.programs["pg_createcluster"] = lambda _: Result(1, "", "Error: something else\n")
    with pytest.raises(CommandFailed, match="pg_createcluster"):
        new.apply(host, None)


def test_a_cluster_of_ours_starts_at_boot_and_a_shared_ones_start_is_its_owners() -> None:
    host = machine(main="")
    host.programs["systemctl"] = lambda _: Result(0, "", "")
    host.put(f"{MAIN}/start.conf", "manual\n")
    ours = PostgresCluster(clusters.planned(15), 5432, ClusterState("auto"), Systemd(host, ()))
    theirs = PostgresCluster(clusters.planned(15), 5432, ClusterState(None), Systemd(host, ()))
    assert theirs.observe(host) == theirs.want
    assert ours.observe(host) == ClusterState("manual")
    ours.apply(host, ours.observe(host))
    assert ours.observe(host) == ours.want


class _Template:
    """A server that knows its template's encoding and locale."""

    def __init__(self, encoding: str, ctype: str, version: int = 150010) -> None:
        self.row = [encoding, ctype, str(version)]

    def query(self, *_: object, **__: object) -> list[list[str]]:
        return [self.row]


@pytest.mark.parametrize(
    ("encoding", "ctype", "ours", "asked"),
    [
        ("UTF8", "en_US.UTF-8", True, False),
        ("EUC_JP", "ja_JP.eucJP", True, True),
        ("LATIN1", "de_DE", True, True),
        ("LATIN1", "de_DE", False, True),
        ("SQL_ASCII", "C", True, True),
        ("UTF8", "C", True, True),
        ("SQL_ASCII", "C", False, False),
    ],
)
def test_a_database_is_utf8_whatever_its_cluster_is(encoding: str, ctype: str, ours: bool, asked: bool) -> None:
    text = create_statement(_Template(encoding, ctype), "postgres", ours=ours)
    assert ("LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8' LOCALE_PROVIDER libc" in text) is asked
    older = create_statement(_Template(encoding, ctype, 140020), "postgres", ours=ours)
    assert "LOCALE_PROVIDER" not in older, "PostgreSQL 14 does not know it"


# the administrator's session -----------------------------------------------------------------------------------------


def test_the_session_goes_where_the_server_really_is(tmp_path: Path) -> None:
    pid = tmp_path / "postmaster.pid"
    where = {"host": "/var/run/postgresql", "port": "5432", "pid_file": str(pid)}
    assert place(where) == {"host": "/var/run/postgresql", "port": "5432"}
    pid.write_text("1234\n/var/lib/postgresql/15/main\n1700000000\n5433\n/tmp\n127.0.0.1\n")
    assert place(where) == {"host": "/tmp", "port": "5433"}
    pid.write_text("1234\n")
    assert place(where) == {"host": "/var/run/postgresql", "port": "5432"}


def test_errors_lead_out() -> None:
    assert "local all postgres peer" in SqlError("no entry", "28000").hint
    assert "max_connections" in SqlError("too many clients", "53300").hint
    assert "disk is full" in SqlError("could not extend", "53100").hint
    assert SqlError("no entry", "28P01").kept_out
    assert not SqlError("gone", "08006").kept_out
