"""PostgreSQL's clusters on this host, as Debian's postgresql-common keeps them: found by their files, without root, in a millisecond.

`pg_lsclusters --json` says the same and takes a tenth of a second (perl), a quarter of what `status`
may take; a test on a real host compares the two.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from posixpath import dirname, join, normpath

from mlflow_onprem.core.errors import NotVisible, OnPremError
from mlflow_onprem.core.host import Host

ETC = "/etc/postgresql"
DATA = "/var/lib/postgresql"
SOCKETS = "/var/run/postgresql"
DEFAULT_PORT = 5432
#: Our settings' file; in conf.d where the cluster reads that, otherwise beside postgresql.conf.
SETTINGS = "90-mlflow-onprem.conf"
BEGIN, END = "# >>> mlflow-onprem >>>", "# <<< mlflow-onprem <<<"
DEPTH = 10  # PostgreSQL's own limit of files that include files
_LINE = re.compile(r"^\s*([A-Za-z0-9_.-]+)(?:\s*=\s*|\s+)(?:'((?:[^'\\]|''|\\.)*)'|([^'#\s]+))")


@dataclass(frozen=True)
class Cluster:
    """One cluster. `port` is the one its configuration names, `start` what start.conf says (auto, manual, disabled).

    `reads_conf_d` is whether postgresql.conf includes conf.d, `lacks_conf_d` whether it does and there is none, `later` the settings that are read
    after our file there would be.
    """

    version: int
    name: str
    port: int = DEFAULT_PORT
    data: str = ""
    hba: str = ""
    ident: str = ""
    sockets: tuple[str, ...] = (SOCKETS,)
    ssl: bool = True
    log_timezone: str = ""
    start: str = "auto"
    reads_conf_d: bool = True
    lacks_conf_d: bool = False
    later: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """As PostgreSQL's own tools write it: 15/main."""
        return f"{self.version}/{self.name}"

    @property
    def unit(self) -> str:
        """Debian's unit of it."""
        return f"postgresql@{self.version}-{self.name}.service"

    @property
    def folder(self) -> str:
        """Where its configuration is."""
        return f"{ETC}/{self.version}/{self.name}"

    @property
    def conf(self) -> str:
        """Its postgresql.conf."""
        return f"{self.folder}/postgresql.conf"

    @property
    def settings(self) -> str:
        """Where our settings go."""
        return f"{self.folder}/conf.d/{SETTINGS}" if self.reads_conf_d else f"{self.folder}/{SETTINGS}"

    @property
    def pid_file(self) -> str:
        """Written by the running server: its port and its socket's folder stand there too."""
        return f"{self.data}/postmaster.pid"

    @property
    def log(self) -> str:
        """Its log file."""
        return f"/var/log/postgresql/postgresql-{self.version}-{self.name}.log"


def planned(version: int, name: str = "main", port: int = DEFAULT_PORT) -> Cluster:
    """A cluster as postgresql-common makes one."""
    folder = f"{ETC}/{version}/{name}"
    return Cluster(version, name, port, f"{DATA}/{version}/{name}", f"{folder}/pg_hba.conf", f"{folder}/pg_ident.conf")


def every(host: Host) -> tuple[Cluster, ...]:
    """All clusters, running or not, the newest version first."""
    found = []
    for version in sorted((int(each) for each in host.listdir(ETC) if each.isdigit()), reverse=True):
        for name in host.listdir(f"{ETC}/{version}"):
            if host.stat(f"{ETC}/{version}/{name}/postgresql.conf") is not None:
                found.append(_look(host, version, name))
    return tuple(found)


def _look(host: Host, version: int, name: str) -> Cluster:
    usual = planned(version, name)
    lines = list(settings(host, usual.conf))
    values = dict(lines)
    data = values.get("data_directory", usual.data)
    reads = any(key == "include_dir" and value.rstrip("/") in ("conf.d", f"{usual.folder}/conf.d") for key, value in lines)
    if BEGIN in _raw(host, usual.conf):
        values |= dict(settings(host, replace(usual, reads_conf_d=reads).settings))
    # ALTER SYSTEM's file is read last of all; only root may see it.
    values |= dict(settings(host, f"{data}/postgresql.auto.conf"))
    own = [key for key, _ in settings(host, usual.conf, follow=False)]
    port = values.get("port", "")
    return Cluster(
        version,
        name,
        port=int(port) if port.isdigit() else DEFAULT_PORT,
        data=data,
        hba=_real(host, values.get("hba_file", usual.hba)),
        ident=_real(host, values.get("ident_file", usual.ident)),
        sockets=tuple(each.strip().strip('"') for each in values.get("unix_socket_directories", SOCKETS).split(",")),
        ssl=values.get("ssl", "off").lower() in ("on", "true", "yes", "1"),
        log_timezone=values.get("log_timezone", ""),
        start=_start(host, usual.folder),
        reads_conf_d=reads,
        lacks_conf_d=reads and host.stat(f"{usual.folder}/conf.d") is None,
        later=frozenset(_later(host, usual.folder, own)) if reads else frozenset(),
    )


def settings(host: Host, path: str, depth: int = DEPTH, *, follow: bool = True) -> Iterator[tuple[str, str]]:
    """Names and values in the order in which PostgreSQL reads them; the last one of a name counts. What this user may not read is left out.

    With `follow` the files that it includes are read in their places. Our own block does not count: it is what these are asked for.
    """
    for key, value in parse(_text(host, path)):
        yield key, value
        if not follow or depth == 0:
            continue
        place = normpath(join(dirname(path), value))
        if key == "include_dir":
            names: Sequence[str] = ()
            with contextlib.suppress(NotVisible, OnPremError):
                names = host.listdir(place)
            for name in names:
                if name.endswith(".conf") and not name.startswith("."):
                    yield from settings(host, join(place, name), depth - 1)
        elif key in ("include", "include_if_exists"):
            yield from settings(host, place, depth - 1)


def parse(text: str) -> Iterator[tuple[str, str]]:
    """Names (in lower case) and values of one file in postgresql.conf's form."""
    for line in text.splitlines():
        found = _LINE.match(line)
        if found is not None:
            quoted, plain = found.group(2), found.group(3)
            yield found.group(1).lower(), plain if quoted is None else re.sub(r"\\(.)|''", lambda each: each.group(1) or "'", quoted)


def _raw(host: Host, path: str) -> str:
    try:
        return (host.read(path) or b"").decode(errors="replace")
    except (NotVisible, OnPremError):
        return ""


def _text(host: Host, path: str) -> str:
    return re.sub(re.escape(BEGIN) + r".*?" + re.escape(END) + r"[^\n]*\n?", "", _raw(host, path), flags=re.DOTALL)


def _later(host: Host, folder: str, own: Sequence[str]) -> Iterator[str]:
    """Settings that come after our file in conf.d: further down in postgresql.conf, or in a file there whose name sorts after ours."""
    at = max((number for number, key in enumerate(own) if key == "include_dir"), default=len(own))
    yield from own[at + 1 :]
    for name in host.listdir(f"{folder}/conf.d"):
        if name.endswith(".conf") and name > SETTINGS:
            yield from (key for key, _ in settings(host, f"{folder}/conf.d/{name}"))


def _start(host: Host, folder: str) -> str:
    words = [line.split("#")[0].strip() for line in _text(host, f"{folder}/start.conf").splitlines()]
    return next((word for word in words if word), "auto")


def _real(host: Host, path: str) -> str:
    """Behind a symlink: replacing the link would part the file from where its owner keeps it."""
    for _ in range(DEPTH):
        target = host.readlink(path)
        if target is None:
            return path
        path = normpath(join(dirname(path), target))
    return path
