"""What starts a hand-built server: units of any name, the system's or a user's, lines of crontabs and of rc.local. Afterwards nothing does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base
from mlflow_onprem.system.hand_built import Ours, Server, lines_that_start_it, running, started_by, stores, words
from mlflow_onprem.system.systemd import Systemd

SYSTEM_UNITS = ("/etc/systemd/system", "/usr/local/lib/systemd/system")
PACKAGED_UNITS = ("/lib/systemd/system", "/usr/lib/systemd/system")
USER_UNITS = (".config/systemd/user", ".local/share/systemd/user")
CRONTABS = ("/etc/crontab", "/etc/rc.local")
CRON_FOLDERS = ("/etc/cron.d", "/var/spool/cron/crontabs", "/var/spool/cron")
STOPPED = "# stopped by mlflow-onprem, which serves it now: "
OURS = "Written by mlflow-onprem"


@dataclass(frozen=True)
class OldUnit:
    """A unit that starts a hand-built server. `account` is whose own systemd it belongs to (empty: the system's), `home` that account's."""

    name: str
    path: str
    account: str = ""
    home: str = ""

    def __str__(self) -> str:
        return f"{self.account}'s {self.name}" if self.account else self.name


@dataclass(frozen=True)
class OldUnitsState:
    """Units that start it."""

    start_it: tuple[str, ...] = ()


@dataclass(frozen=True)
class OldUnits(Base):
    """No unit of another's starts MLflow, or a store on our ports: stopped, disabled, and their files moved into `folder`."""

    systemd: Systemd
    folder: str
    ours: Ours
    want: OldUnitsState | None = OldUnitsState()

    @property
    def name(self) -> str:
        return "old-units"

    def observe(self, host: Host) -> OldUnitsState | None:
        return OldUnitsState(tuple(str(each) for each in old_units(host, self.ours)))

    def apply(self, host: Host, have: OldUnitsState | None) -> None:
        for unit in old_units(host, self.ours):
            if unit.account:
                self._stop_users(host, unit)
            else:
                self._stop(host, unit)

    def _stop(self, host: Host, unit: OldUnit) -> None:
        # What would start it on a clock, a socket or a path goes first.
        shown = host.run(["systemctl", "show", "--property=TriggeredBy", "--value", unit.name], ok=(0, 1)).out.split()
        for trigger in shown:
            host.run(["systemctl", "disable", "--now", "--quiet", trigger], ok=range(256), timeout=180)
        # What somebody made with systemd-run has no file, and cannot be disabled.
        self.systemd.act(*(["disable", "--now"] if unit.path else ["stop"]), unit.name)
        _move_aside(host, unit.path, self.folder)
        if unit.path.startswith(PACKAGED_UNITS):
            host.run(["systemctl", "mask", "--quiet", unit.name], ok=range(256))
        self.systemd.act("daemon-reload")
        host.run(["systemctl", "reset-failed", unit.name], ok=range(256))

    def _stop_users(self, host: Host, unit: OldUnit) -> None:
        uid = host.run(["id", "-u", unit.account]).out.strip()
        runtime = f"/run/user/{uid}"
        if host.stat(f"{runtime}/systemd/private") is not None:
            environment = {"XDG_RUNTIME_DIR": runtime, "HOME": unit.home}
            for words in (["disable", "--now"], ["stop"]):
                host.run(["systemctl", "--user", *words, unit.name], user=unit.account, env=environment, ok=range(256), timeout=180)
        # Without a manager of theirs that runs, the links that enable it are what starts it at the next log-in.
        base = unit.path.rpartition("/")[0]
        for wants in (each for each in host.listdir(base) if each.endswith((".wants", ".requires"))):
            host.remove(f"{base}/{wants}/{unit.name}")
        _move_aside(host, unit.path, self.folder)
        if host.stat(f"{runtime}/systemd/private") is not None:
            host.run(["systemctl", "--user", "daemon-reload"], user=unit.account, env=environment, ok=range(256))


def _move_aside(host: Host, path: str, folder: str) -> None:
    """A unit file that is not a package's, and its drop-ins: kept where the copy of everything is, and gone from where systemd looks."""
    if not path or path.startswith(PACKAGED_UNITS):
        return
    dropins = [f"{path}.d/{name}" for name in host.listdir(f"{path}.d")]
    for each in (path, *dropins):
        keep(host, each, folder)
        host.remove(each)
    host.remove(f"{path}.d")


def keep(host: Host, path: str, folder: str) -> None:
    """Copy a file into the folder of an adoption; a copy that is there already is the older one, and stays."""
    content, target = host.read(path), f"{folder}/{path.strip('/').replace('/', '_')}"
    if content is not None and host.stat(target) is None:
        host.write(target, content, mode=0o600, owner="root", group="root")


def old_units(host: Host, ours: Ours) -> list[OldUnit]:
    """Units of another's that start an MLflow that has to give way, running or not, and those of a store on a port of ours."""
    found = {(each.account, each.name): each for each in (*_written(host, ours), *_running(host, ours))}
    return [found[key] for key in sorted(found)]


def _written(host: Host, ours: Ours) -> Iterator[OldUnit]:
    places = [(folder, "", "") for folder in SYSTEM_UNITS]
    places += [(f"{home}/{folder}", account, home) for account, home in _people(host) for folder in USER_UNITS]
    for folder, account, home in places:
        for name in host.listdir(folder):
            path = f"{folder}/{name}"
            if not name.endswith(".service") or (seen := host.stat(path)) is None or seen.kind == "directory":
                continue
            text = (host.read(path) or b"").decode(errors="replace")
            server = None if OURS in text else unit_server(host, text)
            if (server is not None and ours.takes(server)) or (not account and name in ours.units and text and OURS not in text):
                yield OldUnit(name, path, account, home)


def unit_server(host: Host, text: str) -> Server | None:
    """How a unit file calls MLflow, by itself or by a script; None where it does not."""
    rows = [row.partition("=")[::2] for row in text.replace("\\\n", " ").splitlines() if "=" in row and not row.startswith(("#", ";"))]
    environment = dict(pair.partition("=")[::2] for name, value in rows if name == "Environment" for pair in words(value))
    for path in (value.lstrip("-") for name, value in rows if name == "EnvironmentFile"):
        lines = (host.read(path) or b"").decode(errors="replace").splitlines() if path.startswith("/") else []
        environment |= {name.strip(): value.strip().strip("\"'") for name, _, value in (line.partition("=") for line in lines if "=" in line)}
    folder = next((value for name, value in rows if name == "WorkingDirectory"), "/")
    commands = (value.lstrip("@-:+!") for name, value in rows if name == "ExecStart")
    return next((found for each in commands if (found := started_by(host, each, environment, folder)) is not None), None)


def _running(host: Host, ours: Ours) -> Iterator[OldUnit]:
    homes = dict(_people(host))
    for each in (*running(host, ours), *stores(host, ours)):
        if not each.has_its_own_unit:
            continue
        if each.manager:
            home = homes.get(each.manager, "")
            paths = [f"{home}/{folder}/{each.unit}" for folder in USER_UNITS if host.stat(f"{home}/{folder}/{each.unit}") is not None]
            yield OldUnit(each.unit, paths[0] if paths else "", each.manager, home)
        else:
            path = unit_file(host, each.unit)
            if not path or OURS not in (host.read(path) or b"").decode(errors="replace"):
                yield OldUnit(each.unit, path)


def unit_file(host: Host, name: str) -> str:
    """Where a system unit is written; empty for one that somebody made with systemd-run, which is gone when it is stopped."""
    template = re.sub(r"@[^.]+\.", "@.", name)
    places = (f"{folder}/{each}" for each in (name, template) for folder in (*SYSTEM_UNITS, *PACKAGED_UNITS))
    return next((path for path in places if host.stat(path) is not None), "")


def _people(host: Host) -> list[tuple[str, str]]:
    rows = [line.split(":") for line in (host.read("/etc/passwd") or b"").decode(errors="replace").splitlines()]
    homes = [(row[0], row[5]) for row in rows if len(row) > 6 and row[5].startswith("/") and row[5] != "/"]
    return [(name, home) for name, home in homes if any(host.stat(f"{home}/{folder}") is not None for folder in USER_UNITS)]


@dataclass(frozen=True)
class StartLinesState:
    """Files with lines that start it, and how many."""

    start_it: tuple[str, ...] = ()


@dataclass(frozen=True)
class StartLines(Base):
    """No line of a crontab or of rc.local starts MLflow: each such line is a comment with a mark, and the file as it was is kept."""

    folder: str
    ours: Ours
    want: StartLinesState | None = StartLinesState()

    @property
    def name(self) -> str:
        return "old-start-lines"

    def observe(self, host: Host) -> StartLinesState | None:
        return StartLinesState(tuple(f"{path} ({len(lines)} line{'s' if len(lines) > 1 else ''})" for path, lines in start_lines(host, self.ours)))

    def apply(self, host: Host, have: StartLinesState | None) -> None:
        for path, lines in start_lines(host, self.ours):
            content, found = host.read(path), host.stat(path)
            if content is None or found is None:
                continue
            keep(host, path, self.folder)
            rows = content.decode(errors="surrogateescape").splitlines()
            text = "".join(f"{STOPPED + row if row in lines else row}\n" for row in rows)
            host.write(path, text.encode(errors="surrogateescape"), mode=found.mode, owner=found.owner, group=found.group)


def start_lines(host: Host, ours: Ours) -> list[tuple[str, list[str]]]:
    """Files that cron or the start of the system reads, with their lines that start MLflow."""
    paths = [*CRONTABS, *(f"{folder}/{name}" for folder in CRON_FOLDERS for name in host.listdir(folder))]
    found = []
    for path in paths:
        seen = host.stat(path)
        if seen is not None and seen.kind == "file":
            lines = list(lines_that_start_it(host, path, (host.read(path) or b"").decode(errors="surrogateescape"), ours))
            found += [(path, lines)] if lines else []
    return found


def files_of(host: Host, ours: Ours) -> tuple[str, ...]:
    """Every file that one of these changes, for the copy that is made first."""
    units = [each.path for each in old_units(host, ours) if each.path and not each.path.startswith(PACKAGED_UNITS)]
    dropins = [f"{path}.d/{name}" for path in units for name in host.listdir(f"{path}.d")]
    return (*units, *dropins, *(path for path, _ in start_lines(host, ours)))


def written_server(host: Host, ours: Ours) -> Server | None:
    """How an MLflow that does not run now would be called by the unit or the line that starts it; None where nothing does."""
    for unit in old_units(host, ours):
        if unit.path and (found := unit_server(host, (host.read(unit.path) or b"").decode(errors="replace"))) is not None:
            return found
    for path, lines in start_lines(host, ours):
        if (found := started_by(host, lines[0], {}, "", of=path)) is not None:
            return found
    return None
