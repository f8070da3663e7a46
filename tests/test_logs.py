"""Logs: captured lines of the journal and of PostgreSQL, their zones, files that rotate, and one order of time."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from mlflow_onprem.core.errors import ConfigError, ExitCode, Refused
from mlflow_onprem.core.host import Result
from mlflow_onprem.logs import read
from mlflow_onprem.logs.follow import Tail
from mlflow_onprem.logs.read import Line, Sources
from mlflow_onprem.settings.config import Config, MinioSection
from mlflow_onprem.system.local_host import LocalHost
from tests.fakes import FakeHost

UNITS = {"minio.service": "minio", "postgresql@15-main.service": "postgres", "mlflow.service": "mlflow"}
BERLIN = ZoneInfo("Europe/Berlin")
# Captured on Debian 12.
POSTGRES = """\
2026-11-23 19:25:24.128 UTC [212] mlflow_user@mlflow_auth ERROR:  duplicate key value violates unique constraint "users_username_key"
2026-11-23 19:25:24.128 UTC [212] mlflow_user@mlflow_auth DETAIL:  Key (username)=(ann) already exists.
2026-11-23 19:25:24.128 UTC [212] mlflow_user@mlflow_auth STATEMENT:  INSERT INTO users
\tVALUES (1)

2026-11-23 19:26:23.096 UTC [60] LOG:  checkpoint starting: time
2026-11-23 19:26:24 UTC [61] FATAL:  password authentication failed for user "mlflow_user"
"""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def entry(time: str, message: object, **fields: object) -> str:
    """One line of `journalctl -o json`."""
    return json.dumps({"__REALTIME_TIMESTAMP": str(int(utc(time).timestamp() * 1e6)), "MESSAGE": message, "PRIORITY": "6", **fields})


def test_lines_of_the_journal() -> None:
    line = read.parse_journal(entry("2026-11-23 19:30:05.959001", "Rejected", _SYSTEMD_UNIT="mlflow.service", PRIORITY="4"), UNITS)
    assert line == Line(utc("2026-11-23 19:30:05.959001"), "mlflow", "warning", "Rejected")
    started = read.parse_journal(entry("2026-11-23 19:30:06", "Started", UNIT="minio.service", _SYSTEMD_UNIT="init.scope"), UNITS)
    assert started
    assert started.service == "minio"
    raw = read.parse_journal(entry("2026-11-23 19:30:06", [72, 105, 255], _SYSTEMD_UNIT="mlflow-onprem-backup.service"), UNITS)
    assert raw
    assert (raw.service, raw.text) == ("stack", "Hi\ufffd")
    empty = read.parse_journal(entry("2026-11-23 19:30:06", None, _SYSTEMD_UNIT="mlflow.service"), UNITS)
    assert empty
    assert empty.text == ""


@pytest.mark.parametrize("text", ["", "-- No entries --", "{}", '{"__REALTIME_TIMESTAMP": "x"}'])
def test_what_is_no_line_of_the_journal(text: str) -> None:
    assert read.parse_journal(text, UNITS) is None


def test_postgresqls_own_log() -> None:
    found = list(read.parse_postgres(["of an entry before\n", *POSTGRES.splitlines()], timezone.utc))
    assert [(each.level, each.time.second) for each in found] == [("error", 24), ("info", 24), ("info", 24), ("info", 23), ("error", 24)]
    assert found[2].text.endswith("INSERT INTO users\n\tVALUES (1)\n")
    assert found[0].text.startswith("[212] mlflow_user@mlflow_auth ERROR:")


@pytest.mark.parametrize(
    ("stamp", "zone", "time"),
    [
        ("2026-07-01 12:00:00.000 CEST", BERLIN, "2026-07-01 10:00:00"),
        ("2026-10-25 02:30:00.000 CEST", BERLIN, "2026-10-25 00:30:00"),  # the hour that comes twice
        ("2026-10-25 02:30:00.000 CET", BERLIN, "2026-10-25 01:30:00"),
        ("2026-07-01 12:00:00.000 UTC", BERLIN, "2026-07-01 12:00:00"),
        ("2026-07-01 12:00:00.000 +0530", timezone.utc, "2026-07-01 06:30:00"),
        ("2026-07-01 12:00:00.000 -03", timezone.utc, "2026-07-01 15:00:00"),
    ],
)
def test_times_of_postgresql_are_in_its_own_zone(stamp: str, zone: ZoneInfo, time: str) -> None:
    assert next(read.parse_postgres([f"{stamp} [1] LOG:  x"], zone)).time == utc(time)


# one host --------------------------------------------------------------------------------------------------------


def server(root: Path, journal: str = "") -> tuple[FakeHost, Sources]:
    """A host with these files and this journal."""
    host = FakeHost(backing=root)
    host.programs["journalctl"] = lambda _: Result(0, journal, "")
    files = sorted((root / "var/log/postgresql").iterdir(), key=lambda each: (len(each.name), each.name))
    return host, Sources(UNITS, tuple(f"/var/log/postgresql/{each.name}" for each in files), timezone.utc)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "var/log/postgresql"
    made.mkdir(parents=True)
    return made


def _rows(first: int, last: int) -> str:
    return "".join(
        f"2026-11-23 {number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000 UTC [1] LOG:  row {number}\n" for number in range(first, last)
    )


def test_all_in_one_order_of_time(tmp_path: Path, folder: Path) -> None:
    (folder / "postgresql-15-main.log").write_text(POSTGRES)
    journal = [
        entry("2026-11-23 19:25:24", "before", _SYSTEMD_UNIT="mlflow.service"),
        entry("2026-11-23 19:26:23.500", "b: same instant, first", _SYSTEMD_UNIT="minio.service"),
        entry("2026-11-23 19:26:23.500", "a: same instant, second", _SYSTEMD_UNIT="minio.service"),
    ]
    host, where = server(tmp_path, "\n".join(journal))
    found = read.read(host, where, since=None, count=None)
    assert [each.service for each in found] == ["mlflow", "postgres", "postgres", "postgres", "postgres", "minio", "minio", "postgres"]
    assert [each.text[:1] for each in found[5:7]] == ["b", "a"]
    assert [each.text for each in read.read(host, where, since=None, count=2)] == [each.text for each in found[-2:]]


def test_the_end_of_a_large_log_and_the_files_before_it(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_BLOCK", 200)
    (folder / "postgresql-15-main.log").write_text(_rows(200, 300))
    (folder / "postgresql-15-main.log.1").write_text(_rows(100, 200))
    (folder / "postgresql-15-main.log.2.gz").write_bytes(gzip.compress(_rows(0, 100).encode()))
    host, where = server(tmp_path)

    def numbers(since: float | None, count: int | None) -> list[int]:
        return [int(each.text.rpartition(" ")[2]) for each in read.read(host, where, since=since, count=count)]

    assert numbers(None, 7) == list(range(293, 300))
    assert numbers(None, 150) == list(range(150, 300))
    assert numbers(None, 1000) == list(range(300))
    assert numbers(utc("2026-11-23 00:01:50").timestamp(), None) == list(range(110, 300))
    assert numbers(utc("2026-11-23 00:01:50").timestamp(), 3) == [297, 298, 299]


def test_the_journal_is_asked_for_these_units_and_our_timers(tmp_path: Path, folder: Path) -> None:
    host, where = server(tmp_path)
    read.read(host, where, since=1700000000.5, count=9)
    argv = host.calls[-1].argv
    assert [word for word in argv if word.startswith("--unit=")] == [*(f"--unit={unit}" for unit in UNITS), "--unit=mlflow-onprem-*"]
    assert ("--since=@1700000000" in argv, "--lines=9" in argv) == (True, True)
    assert "--unit=mlflow-onprem-*" not in read.journal_command({"mlflow.service": "mlflow"})


def test_what_is_written_while_one_looks(folder: Path) -> None:
    path = folder / "postgresql-15-main.log"
    path.write_text(_rows(0, 2))
    tail = Tail(path, Sources(UNITS, (str(path),), timezone.utc))
    assert tail.news() == []
    whole = _rows(2, 4)
    with path.open("a") as file:
        file.write(whole[:-5])
        file.flush()
        assert [each.text for each in tail.news()] == ["[1] LOG:  row 2"]
        file.write(whole[-5:] + "\tmore of it\n")
    assert [each.text for each in tail.news()] == ["[1] LOG:  row 3", "\tmore of it"]
    path.write_text(_rows(4, 5))  # cut and begun anew
    assert [each.text for each in tail.news()] == ["[1] LOG:  row 4"]
    path.rename(folder / "postgresql-15-main.log.1")
    assert tail.news() == []
    path.write_text(_rows(5, 7))  # another file of the same name
    assert [each.text for each in tail.news()] == ["[1] LOG:  row 5", "[1] LOG:  row 6"]


def test_who_may_read() -> None:
    host = FakeHost(is_root=False)
    with pytest.raises(Refused, match="members of the group adm") as refused:
        read.sources(host, Config(), None, ["users"])
    assert "sudo" in refused.value.hint
    host.put("/etc/os-release", "VERSION_CODENAME=bookworm\n")
    assert read.sources(host, Config(), "minio", ["users", "adm"]).units == {"minio.service": "minio"}


def test_a_service_that_runs_elsewhere(tmp_path: Path) -> None:
    host = FakeHost(backing=tmp_path)
    host.put("/etc/os-release", "VERSION_CODENAME=bookworm\n")
    config = Config(minio=MinioSection(mode="external", endpoint="https://s3.example.com", credentials_file="/root/c"))
    assert "minio.service" not in read.sources(host, config, None, []).units
    with pytest.raises(Refused, match="minio is external here"):
        read.sources(host, config, "minio", [])


@pytest.mark.parametrize("text", ["10m", "2h", "3 d", "1w", "today", "2026-11-20 14:00"])
def test_times_as_people_write_them(text: str) -> None:
    host = FakeHost()
    host.programs["systemd-analyze"] = lambda _: Result(0, "  Original form: x\n   UNIX seconds: @1795461955.751348\n", "")
    assert read.since_seconds(host, text) == 1795461955.751348
    wanted = f"-{text.replace(' ', '')}" if text[0].isdigit() and "-" not in text else text
    assert host.calls[-1].argv == ("systemd-analyze", "timestamp", "--", wanted)


def test_a_time_that_is_none() -> None:
    host = FakeHost()
    host.programs["systemd-analyze"] = lambda _: Result(1, "", "Failed to parse")
    with pytest.raises(ConfigError, match="is not a time") as refused:
        read.since_seconds(host, "soon")
    assert refused.value.exit_code == ExitCode.USAGE


def test_postgresqls_zone_is_the_one_of_its_configuration(tmp_path: Path) -> None:
    conf = tmp_path / "etc/postgresql/15/main"
    conf.mkdir(parents=True)
    (conf / "postgresql.conf").write_text("#log_timezone = 'GMT'\nlog_timezone = 'Europe/Berlin'  # by initdb\n")
    (tmp_path / "etc/os-release").write_text("VERSION_CODENAME=bookworm\n")
    log = tmp_path / "var/log/postgresql"
    log.mkdir(parents=True)
    for name in (
        "postgresql-15-main.log",
        "postgresql-15-main.log.10.gz",
        "postgresql-15-main.log.2.gz",
        "postgresql-15-main.log.1",
        "postgresql-14-main.log",
    ):
        (log / name).touch()
    where = read.sources(LocalHost(tmp_path), Config(), "postgres", ["adm"])
    assert where.zone == BERLIN
    assert [each.rpartition("main.log")[2] for each in where.files] == ["", ".1", ".2.gz", ".10.gz"]
