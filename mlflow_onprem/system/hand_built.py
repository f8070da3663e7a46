"""Servers that somebody started here by hand: known by their command lines, whoever started them, and by what starts them again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mlflow_onprem.core.host import Host
from mlflow_onprem.system.ports import pids

OURS = "/opt/mlflow-onprem/"
#: `mlflow server`, `python -m mlflow ui`, and what gunicorn, waitress and uvicorn are told to serve.
SERVES_MLFLOW = re.compile(r"(?:^|[\s/='\"])mlflow\s+(?:server|ui)\b|(?<![\w.-])mlflow\.server(?:\.\w+)*:\w+")
SERVES_OBJECTS = re.compile(r"(?:^|[\s/='\"])minio\s+server\b")
#: What runs such a command; an editor or a terminal with the same words in its command line does not.
RUNNERS = re.compile(r"^(python[\d.]*|pypy[\d.]*|gunicorn.*|uvicorn.*|hypercorn|waitress-serve|mlflow|minio|bash|sh|dash|zsh)$")
#: Units of which a process may be part without being what the unit is for.
OF_OTHERS = re.compile(
    r"^(session-.*|tmux-.*|run-.*|vte-.*|app-.*|user@.*|ssh@?.*|sshd@?.*|cron|crond|atd|anacron|rc-local|rc\.local|getty@.*|serial-getty@.*|console-getty|init|display-manager|gdm|"
    r"jupyterhub|jupyter.*|code-server.*|qemu-guest-agent|google-.*|amazon-ssm-agent|walinuxagent)\.(service|scope)$"
)
#: Who starts a program again when it ends.
KEEPERS = re.compile(r"^(supervisor|supervisord|pm2-.*|docker|containerd|podman.*|runit.*|s6.*|monit|nomad|circus.*|snap\..*)\.service$")
CONTAINERS = re.compile(r"docker-|/docker/|libpod|kubepods|lxc\.payload|/machine\.slice/|containerd")


@dataclass(frozen=True)
class Running:
    """One process of such a server. `unit` is what it is part of (empty: a terminal's), `manager` the account of a user's own systemd."""

    pid: int
    words: tuple[str, ...]
    user: str
    unit: str
    manager: str = ""
    container: bool = False

    @property
    def has_its_own_unit(self) -> bool:
        """Whether systemd starts it, and nothing else with it."""
        return self.unit.endswith(".service") and not OF_OTHERS.match(self.unit) and not self.keeper

    @property
    def keeper(self) -> str:
        """Who starts it again, if it is not systemd."""
        return "a container" if self.container else self.unit if KEEPERS.match(self.unit) else ""


@dataclass(frozen=True)
class Ours:
    """What this stack will be: whoever serves MLflow on that port or from that database is taken over, whoever does elsewhere is left alone.

    `units` are those that it writes itself, `objects` those of another's store that holds a port of ours.
    """

    port: int
    database: str
    units: tuple[str, ...] = ("mlflow.service", "minio.service")
    objects: tuple[str, ...] = ()

    def takes(self, server: Server) -> bool:
        """Whether a server has to give way."""
        return server.port == self.port or (server.backend.startswith("postgres") and urlsplit(server.backend).path.strip("/") == self.database)


@dataclass(frozen=True)
class Server:
    """How MLflow was called: addresses without passwords, its working directory, the file with the settings of its accounts."""

    backend: str = ""
    root: str = ""
    destination: str = ""
    endpoint: str = ""
    folder: str = ""
    accounts: str = ""
    port: int = 5000
    options: tuple[str, ...] = field(default=(), compare=False)

    def values(self) -> dict[str, Any]:
        """As JSON keeps it."""
        return {name: getattr(self, name) for name in ("backend", "root", "destination", "endpoint", "folder", "accounts", "port")}


def running(host: Host, ours: Ours) -> list[Running]:
    """Every process of an MLflow that is not ours and has to give way."""
    found = (look(host, pid) for pid in pids(host))
    return [each for each in found if each is not None and is_server(each.words) and ours.takes(called(host, [each]))]


def stores(host: Host, ours: Ours) -> list[Running]:
    """Every process of a hand-built object store that holds a port of ours by a unit of its own."""
    found = (look(host, pid) for pid in pids(host)) if ours.objects else ()
    return [each for each in found if each is not None and each.unit in ours.objects and is_server(each.words, SERVES_OBJECTS)]


def may_stop(process: Running, serves: re.Pattern[str]) -> bool:
    """Whether a program on one of our ports is clearly a hand-built server, and stays stopped when it is stopped."""
    return is_server(process.words, serves) and not process.keeper


def starts_it(host: Host, pid: int) -> bool:
    """Whether a process is the server itself or the script that started it (and may start it again); a terminal or a log-in is neither."""
    found = look(host, pid)
    if found is None:
        return False
    program = found.words[0].partition(":")[0].rpartition("/")[2].lstrip("-")
    return bool(RUNNERS.match(program)) and (is_server(found.words) or started_by(host, " ".join(found.words), {}, "") is not None)


def is_server(command: Sequence[str], serves: re.Pattern[str] = SERVES_MLFLOW) -> bool:
    """Whether a command line serves MLflow (or objects), and is not one of ours."""
    text = " ".join(command)
    # gunicorn writes "gunicorn: master [mlflow.server:app]" over its command line.
    program = command[0].partition(":")[0].rpartition("/")[2].lstrip("-") if command else ""
    return bool(RUNNERS.match(program) and serves.search(text)) and OURS not in text and "mlflow_onprem" not in text


def look(host: Host, pid: int) -> Running | None:
    """One process, None where it ended."""
    content = host.read(f"/proc/{pid}/cmdline")
    found = host.stat(f"/proc/{pid}")
    if not content or found is None:
        return None
    words = tuple(content.rstrip(b"\0").decode(errors="replace").split("\0"))
    group = (host.read(f"/proc/{pid}/cgroup") or b"").decode(errors="replace")
    unit, manager = unit_of(group)
    return Running(pid, words, found.owner, unit, manager and found.owner, bool(CONTAINERS.search(group)))


def unit_of(group: str) -> tuple[str, str]:
    """The unit that a control group is of, and the user's manager it belongs to (empty: the system's)."""
    units = re.findall(r"([^/\n]+\.(?:service|scope))", group)
    if not units:
        return "", ""
    manager = next((each for each in units[:-1] if each.startswith("user@")), "")
    return units[-1], manager


def called(host: Host, processes: Iterable[Running]) -> Server:
    """How a running server was called, from the command lines and environments of its processes, outermost first."""
    found: dict[str, str] = {}
    folder = ""
    for each in sorted(processes, key=lambda process: process.pid):
        environment = _environment((host.read(f"/proc/{each.pid}/environ") or b"").decode(errors="replace"))
        folder = folder or host.readlink(f"/proc/{each.pid}/cwd") or ""
        for name, value in {**environment_options(environment), **options(each.words)}.items():
            found.setdefault(name, value)
    return _server(found, folder)


def of_command(text: str, environment: Mapping[str, str], folder: str) -> Server | None:
    """How a command line in a unit or a crontab calls it; None where it does not."""
    if not SERVES_MLFLOW.search(text):
        return None
    return _server({**environment_options(environment), **options(words(text))}, folder)


OPTIONS = {
    "--backend-store-uri": "backend", "--default-artifact-root": "root", "--artifacts-destination": "destination",
    "--app-name": "app", "--port": "port", "-p": "port", "--bind": "bind", "-b": "bind",
}  # fmt: skip
DEFAULT_PORTS = {"gunicorn": "8000", "uvicorn": "8000", "waitress-serve": "8080"}
VARIABLES = {
    "_MLFLOW_SERVER_FILE_STORE": "backend", "MLFLOW_BACKEND_STORE_URI": "backend", "MLFLOW_TRACKING_URI": "",
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "root", "MLFLOW_DEFAULT_ARTIFACT_ROOT": "root",
    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": "destination", "MLFLOW_ARTIFACTS_DESTINATION": "destination",
    "MLFLOW_S3_ENDPOINT_URL": "endpoint", "MLFLOW_AUTH_CONFIG_PATH": "accounts_file", "MLFLOW_PORT": "port",
}  # fmt: skip


def options(command: Iterable[str]) -> dict[str, str]:
    """The options of a command line that matter here, by what they are called in `Server`."""
    found: dict[str, str] = {}
    given = [part for word in command for part in (words(word) if " " in word else [word])]
    for at, word in enumerate(given):
        name, equals, value = word.partition("=")
        if name in OPTIONS:
            found[OPTIONS[name]] = value if equals else given[at + 1] if at + 1 < len(given) else ""
        elif word.startswith("mlflow.server.auth"):
            found["app"] = "basic-auth"
        elif word.rpartition("/")[2] in DEFAULT_PORTS:
            found.setdefault("default_port", DEFAULT_PORTS[word.rpartition("/")[2]])
        elif word.startswith("--listen="):
            found["bind"] = value
    return found


def words(text: str) -> list[str]:
    """As a shell would split it, roughly where its quotes do not match."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def environment_options(environment: Mapping[str, str]) -> dict[str, str]:
    """The same from the environment."""
    return {VARIABLES[name]: value for name, value in environment.items() if VARIABLES.get(name) and value}


def _environment(text: str) -> dict[str, str]:
    return dict(row.partition("=")[::2] for row in text.split("\0") if "=" in row)


def _server(found: Mapping[str, str], folder: str) -> Server:
    port = found.get("port") or found.get("bind", "").rpartition(":")[2] or found.get("default_port", "")
    accounts = found.get("accounts_file", "") or "default" if found.get("app", "").startswith("basic-auth") else ""
    return Server(
        backend=without_password(found.get("backend", "")),
        root=found.get("root", ""),
        destination=found.get("destination", ""),
        endpoint=found.get("endpoint", ""),
        folder=folder,
        accounts=accounts,
        port=int(port) if port.isdigit() else 5000,
    )


def without_password(uri: str) -> str:
    """An address that may be shown and kept."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.partition(':')[0].partition('@')[0]}@{parts.netloc.rpartition('@')[2]}"))


def lines_that_start_it(host: Host, path: str, text: str, ours: Ours) -> Iterator[str]:
    """Lines of a crontab or a script that start an MLflow that has to give way, by themselves or by a script that they name."""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            server = started_by(host, line, {}, "", of=path)
            if server is not None and ours.takes(server):
                yield line


def started_by(host: Host, command: str, environment: Mapping[str, str], folder: str, of: str = "") -> Server | None:
    """How a command, or a script of this host that it names, calls MLflow; None where it does not."""
    if OURS in command or "mlflow-onprem" in command:
        return None
    scripts = (word for word in re.split(r"[\s;&|()'\"]+", command) if word.startswith("/") and word != of)
    texts = [command, *(line for path in scripts for line in _script(host, path).replace("\\\n", " ").splitlines())]
    return next((found for text in texts if (found := of_command(text, environment, folder)) is not None), None)


def _script(host: Host, path: str) -> str:
    found = host.stat(path)
    if found is None or found.kind != "file" or found.size > 65536 or path.startswith(("/bin/", "/usr/bin/", "/dev/", "/proc/")):
        return ""
    content = host.read(path) or b""
    text = content.decode(errors="replace")
    # The `mlflow` command itself is a script too, and serves nothing by being named.
    return "" if b"\0" in content or "mlflow.cli" in text else "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
