"""What the services wrote, from the journal and from PostgreSQL's own file, in the order of time."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path

from mlflow_onprem.core.errors import CommandFailed, ConfigError, NotVisible, OnPremError, Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.topology import LocalPostgres
from mlflow_onprem.system.clusters import Cluster

SERVICES = ("minio", "postgres", "mlflow")
OURS = "mlflow-onprem-*"  # the stack's own timers, shown with the rest
READERS = ("adm", "systemd-journal", "root")  # groups that may read the system's journal
LEVELS = ("emerg", "alert", "critical", "error", "warning", "notice", "info", "debug")
_POSTGRES_LEVELS = {"PANIC": "critical", "FATAL": "error", "ERROR": "error", "WARNING": "warning", "NOTICE": "notice", "LOG": "info"}
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) (\S+) (.*)")
_SEVERITY = re.compile(r"\b(PANIC|FATAL|ERROR|WARNING|NOTICE|LOG|DEBUG\d?):  ")
_BLOCK = 1 << 18  # bytes read at a time from the end of a file


@dataclass(frozen=True)
class Line:
    """One entry. `time` in UTC; `text` may have several lines."""

    time: datetime
    service: str
    level: str
    text: str


@dataclass(frozen=True)
class Sources:
    """Where to read: units by service, PostgreSQL's files from the newest to the oldest, and the zone of their times."""

    units: Mapping[str, str]
    files: tuple[str, ...]
    zone: tzinfo
    note: str = ""


def sources(host: Host, config: Config, service: str | None, groups: Iterable[str]) -> Sources:
    """What belongs to a service, or to all of the stack. Raises Refused for a user who may not read it, or a service that is not here."""
    if not host.is_root and not set(groups) & set(READERS):
        raise Refused(
            "only root and the members of the group adm may read these logs",
            "run it with sudo; or once and for all: sudo usermod -aG adm NAME, then log in again",
        )
    from mlflow_onprem.settings import facts

    cluster = None
    if isinstance(topology.postgres(config), LocalPostgres):
        cluster = facts.choose(host, config).cluster
    units = topology.units(config, cluster.unit if cluster is not None else None)
    if service is not None:
        units = {unit: name for unit, name in units.items() if name == service}
        if not units:
            raise Refused(f"{service} is external here: its log is where it runs", "ask whoever runs it")
    if cluster is None or "postgres" not in units.values():
        return Sources(units, (), timezone.utc)
    files, note = _postgres_files(host, cluster)
    return Sources(units, files, _postgres_zone(cluster), note)


def since_seconds(host: Host, text: str) -> float:
    """`10m`, `2h`, `yesterday`, `2026-11-20 14:00`: seconds since the epoch, by systemd's own reading. Raises ConfigError."""
    short = re.fullmatch(r"(\d+)\s*(s|m|min|h|d|w)", text.strip())
    try:
        answer = host.run(["systemd-analyze", "timestamp", "--", f"-{short[1]}{short[2]}" if short else text]).out
        found = re.search(r"UNIX seconds: @([\d.]+)", answer)
        if found:
            return float(found[1])
    except CommandFailed:
        pass
    raise ConfigError(f"--since {text} is not a time", "for instance 10m, 2h, today, yesterday, '2026-11-20 14:00'")


def read(host: Host, where: Sources, *, since: float | None, count: int | None) -> list[Line]:
    """All entries since then, or the last `count`, in order of time."""
    entries = [entry for text in journal(host, where.units, since, count) if (entry := parse_journal(text, where.units))]
    # Each is in order already; sorting keeps the order of what was written in the same instant.
    lines = sorted([*entries, *_postgres(host, where, since, count)], key=lambda line: line.time)
    return lines[max(0, len(lines) - count) :] if count is not None else lines


def journal_command(units: Collection[str], *options: str) -> list[str]:
    """journalctl for these units, and for what systemd itself says of them."""
    return [
        "journalctl",
        "--no-pager",
        "--quiet",
        "--output=json",
        "--all",
        *(f"--unit={unit}" for unit in (*units, *([OURS] if len(units) > 1 else []))),
        *options,
    ]


def parse_journal(text: str, units: Mapping[str, str]) -> Line | None:
    """One object of `journalctl -o json`, or None for what is none."""
    try:
        entry = json.loads(text)
        time = datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, timezone.utc)
    except (ValueError, KeyError, TypeError):
        return None
    # What systemd says of a unit carries its name in UNIT.
    unit = entry.get("UNIT") or entry.get("_SYSTEMD_UNIT") or ""
    message = entry.get("MESSAGE") or ""
    if isinstance(message, list):  # bytes that are not text
        message = bytes(each for each in message if isinstance(each, int)).decode(errors="replace")
    return Line(time, units.get(unit, "stack"), LEVELS[min(int(entry.get("PRIORITY") or 6), 7)], str(message).rstrip())


def parse_postgres(lines: Iterable[str], zone: tzinfo) -> Iterator[Line]:
    """PostgreSQL's log as Debian sets it up (`%m [%p] ...`); what has no time belongs to the entry above it."""
    held: Line | None = None
    for raw in lines:
        line = raw.rstrip("\n")
        found = _STAMP.match(line)
        time = found and _time(found[1], found[2], zone)
        if found and time:
            if held is not None:
                yield held
            severity = _SEVERITY.search(found[3])
            held = Line(time, "postgres", _POSTGRES_LEVELS.get(severity[1] if severity else "", "info"), found[3])
        elif held is not None:
            held = Line(held.time, held.service, held.level, f"{held.text}\n{line}")
    if held is not None:
        yield held


def _time(text: str, name: str, zone: tzinfo) -> datetime | None:
    """A time of the log. `name`: the zone's abbreviation, which tells the two hours apart that a clock shows twice in autumn."""
    if name in ("UTC", "GMT", "Z"):
        zone = timezone.utc
    offset = re.fullmatch(r"([+-])(\d\d):?(\d\d)?", name)
    if offset:
        minutes = int(offset[2]) * 60 + int(offset[3] or 0)
        zone = timezone(timedelta(minutes=minutes if offset[1] == "+" else -minutes))
    try:
        local = datetime.fromisoformat(text if "." in text else f"{text}.000").replace(tzinfo=zone)
    except ValueError:
        return None
    later = local.replace(fold=1)
    return (later if local.tzname() != name == later.tzname() else local).astimezone(timezone.utc)


def journal(host: Host, units: Mapping[str, str], since: float | None, count: int | None) -> list[str]:
    """Entries as `journalctl -o json` prints them."""
    options = [*([f"--since=@{since:.0f}"] if since is not None else []), *([f"--lines={count}"] if count is not None else [])]
    return host.run(journal_command(units, *options), timeout=300).out.splitlines()


def _postgres(host: Host, where: Sources, since: float | None, count: int | None) -> list[Line]:
    found: list[Line] = []
    for path in where.files:
        found = [*_tail(host.local(path), where.zone, since, None if count is None else count - len(found)), *found]
        if (count is not None and len(found) >= count) or (since is not None and found and found[0].time.timestamp() < since):
            break
    return [line for line in found if since is None or line.time.timestamp() >= since]


def _tail(path: Path, zone: tzinfo, since: float | None, count: int | None) -> list[Line]:
    """As much of the end of a file as is asked for. Raises OnPremError where it cannot be read."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", errors="replace") as packed:
                return list(parse_postgres(packed, zone))
        size, block = path.stat().st_size, _BLOCK
        while True:
            with path.open("rb") as file:
                file.seek(max(0, size - block))
                text = file.read(block).decode(errors="replace")
            lines = list(parse_postgres(text.splitlines(), zone))
            enough = count is not None and len(lines) > count
            if block >= size or enough or (since is not None and lines and lines[0].time.timestamp() < since):
                return lines
            block *= 4
    except FileNotFoundError:
        return []
    except (OSError, EOFError) as failed:
        raise OnPremError(f"PostgreSQL's log {path} cannot be read: {failed}", "run it with sudo") from failed


def _postgres_files(host: Host, cluster: Cluster) -> tuple[tuple[str, ...], str]:
    folder, _, name = cluster.log.rpartition("/")
    try:
        found = [each for each in host.listdir(folder) if re.fullmatch(re.escape(name) + r"(\.\d+(\.gz)?)?", each)]
        found.sort(key=lambda each: int(each.removeprefix(name).strip(".").split(".")[0] or 0))
        with host.local(f"{folder}/{name}").open("rb"):
            pass
    except FileNotFoundError:
        return (), ""
    except (NotVisible, PermissionError):
        return (), f"PostgreSQL's own log in {folder} is left out: only root and the group adm may read it"
    return tuple(f"{folder}/{each}" for each in found), ""


def _postgres_zone(cluster: Cluster) -> tzinfo:
    """The zone PostgreSQL writes its times in."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(cluster.log_timezone) if cluster.log_timezone else timezone.utc
    except (ZoneInfoNotFoundError, ValueError):
        return timezone.utc
