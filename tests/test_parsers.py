"""Parsers on what real hosts print (tests/fixtures, captured; the mirrors' names are changed)."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from psycopg import pq

from mlflow_onprem.resources.database import scram_matches, scram_verifier
from mlflow_onprem.resources.files import BEGIN, END, find_block, replace_block
from mlflow_onprem.resources.packages import parse_dpkg_query
from mlflow_onprem.settings import facts
from mlflow_onprem.system import accounts, ports
from mlflow_onprem.system.apt import is_locked, parse_apt_policies
from mlflow_onprem.system.minio_source import parse_go_version
from mlflow_onprem.system.systemd import parse_show
from tests.fakes import FakeHost

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text()


def test_systemctl_show() -> None:
    units = ("minio.service", "mlflow.service", "postgresql@15-main.service", "postgresql.service", "no-such.service")
    found = parse_show(fixture("systemctl-show.txt"), units)
    assert list(found) == list(units)
    mlflow = found["mlflow.service"]
    assert (mlflow.load, mlflow.active, mlflow.sub, mlflow.file) == ("loaded", "active", "running", "enabled")
    assert (mlflow.main_pid, mlflow.started, mlflow.invocation) == (3898, 1795461770.0, "f38121550cde4b63afca53e0ed07743d")
    assert (mlflow.needs_reload, mlflow.result, mlflow.restarts) == (False, "success", 0)
    assert found["postgresql@15-main.service"].file == "enabled-runtime"
    assert found["postgresql.service"].sub == "exited"
    absent = found["no-such.service"]
    assert (absent.load, absent.active, absent.started, absent.main_pid, absent.file) == ("not-found", "inactive", 0.0, 0, "")


def test_systemctl_show_of_another_number_of_units_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="zip"):
        parse_show(fixture("systemctl-show.txt"), ("minio.service", "mlflow.service"))


def test_systemctl_show_of_a_unit_that_waits_for_a_reload() -> None:
    text = fixture("systemctl-show.txt").split("\n\n")[0].replace("NeedDaemonReload=no", "NeedDaemonReload=yes")
    assert parse_show(text.replace("Mon 2026-11-23 19:14:55 UTC", "n/a"), ("minio.service",))["minio.service"].needs_reload


def test_dpkg_query() -> None:
    assert parse_dpkg_query(fixture("dpkg-query.txt")) == {"bash", "postgresql-15", "python3"}
    assert parse_dpkg_query("half iU \nremoved rc \nheld hi \nbroken iF\nfine ii \n") == {"fine"}
    assert parse_dpkg_query("") == frozenset()


@pytest.mark.parametrize(
    ("name", "version"),
    [("", "15.20-0+deb12u1"), ("-rc", "3.11.0~rc1-1~22.04"), ("-none", None), ("-unknown", None)],
)
def test_apt_cache_policy(name: str, version: str | None) -> None:
    assert list(parse_apt_policies(fixture(f"apt-cache-policy{name}.txt")).values()) == ([] if name == "-unknown" else [version])


@pytest.mark.parametrize(("codename", "version"), facts.DISTRIBUTION_POSTGRES.items())
def test_os_release(codename: str, version: int) -> None:
    found = facts.parse_os_release(fixture(f"os-release-{codename}.txt"))
    assert found["VERSION_CODENAME"] == codename
    assert '"' not in found["PRETTY_NAME"]
    assert facts.DISTRIBUTION_POSTGRES[found["VERSION_CODENAME"]] == version


def test_os_release_with_comments_and_single_quotes() -> None:
    assert facts.parse_os_release("# a = comment\nID='debian'\n\nVERSION_CODENAME=\n") == {"ID": "debian", "VERSION_CODENAME": ""}


def test_meminfo() -> None:
    kilobytes = int(fixture("meminfo.txt").split()[1])
    assert facts.parse_meminfo(fixture("meminfo.txt")) == kilobytes * 1024 > 1 << 30
    assert facts.parse_meminfo("") == 0


@pytest.mark.parametrize(
    ("name", "port", "inodes"),
    [
        ("tcp", 9000, ["109073"]),
        ("tcp", 9001, ["108324"]),
        ("tcp", 5432, ["113236"]),
        ("tcp", 5000, ["232883"]),
        ("tcp6", 5432, ["113235"]),
        ("tcp6", 5000, []),
        ("tcp", 44812, []),
        ("tcp", 900, []),
    ],
)
def test_listeners(name: str, port: int, inodes: list[str]) -> None:
    """44812 (AF0C) is one end of a connection that is closing: nobody listens there."""
    assert [each.inode for each in ports.parse(fixture(f"proc-net-{name}.txt")) if each.port == port] == inodes


def test_passwd() -> None:
    text = fixture("passwd.txt")
    host = FakeHost()
    host.put("/etc/passwd", text)
    found = [accounts.look(host, name) for name in ("minio", "postgres", "postgre")]
    assert [each and (each.home, each.shell, each.may_log_in) for each in found] == [
        ("/var/lib/minio", "/usr/sbin/nologin", False),
        ("/var/lib/postgresql", "/bin/bash", True),
        None,
    ]


@pytest.mark.parametrize(
    ("text", "version"),
    [("go version go1.24.3 linux/amd64", (1, 24)), ("go version go1.19.8 linux/arm64", (1, 19)), ("sh: go: not found", (0, 0))],
)
def test_the_version_of_go(text: str, version: tuple[int, int]) -> None:
    assert parse_go_version(text) == version


@pytest.mark.parametrize(
    "text",
    [
        "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1234 (apt-get)\nE: Unable to lock directory /var/lib/apt/lists/",
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 99 (unattended-upgr)\n"
        "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?",
        "dpkg: error: dpkg frontend lock was locked by another process with pid 7\nNote: removing the lock file is always wrong",
    ],
)
def test_a_lock_is_told_from_other_failures(text: str) -> None:
    assert is_locked(text)
    assert not is_locked("E: Unable to locate package postgresql-99")


# the marked block in a file that belongs to somebody else --------------------------------------------------------------

HBA = fixture("pg_hba.conf")
OURS = "local  mlflow  mlflow_user  peer map=mlflow-onprem\n"


def test_a_block_is_put_on_top_and_nothing_else_changes() -> None:
    text = replace_block(HBA, OURS)
    assert text == f"{BEGIN}\n{OURS}{END}\n{HBA}"
    assert find_block(text) == OURS
    assert find_block(HBA) is None


def test_a_block_is_replaced_in_place_and_again_changes_nothing() -> None:
    text = replace_block(replace_block(HBA, "something older\nand longer\n"), OURS)
    assert text == replace_block(HBA, OURS)
    assert replace_block(text, OURS) == text


def test_a_block_that_was_moved_down_does_not_count_and_comes_back_up() -> None:
    first, rest = HBA.split("\n", 1)
    moved = f"{first}\n{BEGIN}\n{OURS}{END}\n{rest}"
    assert find_block(moved) is None
    assert replace_block(moved, OURS) == f"{BEGIN}\n{OURS}{END}\n{HBA}"


def test_a_block_is_taken_out_and_the_file_is_as_it_was() -> None:
    assert replace_block(replace_block(HBA, OURS), None) == HBA
    assert replace_block(HBA, None) == HBA


def test_a_block_whose_end_was_deleted_does_not_swallow_the_rest() -> None:
    broken = f"{BEGIN}\n{OURS}{HBA}"
    assert find_block(broken) is None
    assert replace_block(broken, OURS).endswith(HBA)


# SCRAM ---------------------------------------------------------------------------------------------------------------

#: What PostgreSQL's own library made of "correct horse" (captured).
KNOWN = "SCRAM-SHA-256$4096:eGs7oNlhVnl8vkz2FVa8cA==$sEzRZkXavuPhY+DzH9boLlTcC2Bpd54dmlYntVDTOl8=:oPJdOmu4gk63YwgePXt/8jae7jrFA9ib9jHD51di7xg="


def test_a_known_verifier_is_made_anew_from_its_salt() -> None:
    assert scram_verifier("correct horse", base64.b64decode("eGs7oNlhVnl8vkz2FVa8cA==")) == KNOWN
    assert scram_matches(KNOWN, "correct horse")
    assert not scram_matches(KNOWN, "correct horses")


def test_libpq_makes_verifiers_that_we_recognise() -> None:
    connection = pq.PGconn.connect(b"host=/nonexistent")
    verifier = connection.encrypt_password(b"a p\xc3\xa4ssword", b"mlflow_user", b"scram-sha-256").decode()
    assert scram_matches(verifier, "a pässword")
    assert not scram_matches(verifier, "a passward")


@pytest.mark.parametrize("verifier", ["", "md5d41d8cd98f00b204e9800998ecf8427e", "SCRAM-SHA-256$x:y$z", "SCRAM-SHA-256$4096:AAAA", "plain"])
def test_what_is_no_verifier_matches_nothing(verifier: str) -> None:
    assert not scram_matches(verifier, "")
