"""`gc`: what users deleted leaves the database and the bucket for good."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mlflow_onprem.core.errors import CommandFailed, ConfigError, Refused
from mlflow_onprem.system.local_host import TAIL_LINES, LocalHost

SETTINGS = "/etc/mlflow-onprem/mlflow.env"
PYTHON = "/opt/mlflow-onprem/environments/current/bin/python"
MODULE = "mlflow_onprem_server.purge"
#: It belongs to the account that the service runs as.
HOME = "/var/lib/mlflow"
UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
Answer: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True)
class Item:
    """A run, logged model or experiment that stays (`why` it does) or could not be removed."""

    kind: str
    id: str
    why: str


@dataclass(frozen=True)
class Collected:
    """What left: counts by kind, objects and their bytes as the bucket listed them. With `dry_run` it would have."""

    dry_run: bool
    older_than: str
    removed: Mapping[str, int]
    objects: int
    bytes: int
    kept: tuple[Item, ...]
    failed: tuple[Item, ...]
    seconds: float


def seconds_of(text: str) -> int:
    """`30d`, `12h`, `2d12h` in seconds. Raises ConfigError."""
    parts = re.findall(r"(\d+)([dhms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(f"{text} is no length of time", "write it in days, hours, minutes or seconds: 30d, 12h, 2d12h, 90s")
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def collect(host: LocalHost, older_than: str, *, dry_run: bool, watch: Callable[[str], None] = lambda _: None) -> Collected:
    """Remove what was deleted at least that long ago. Call it with backup's lock held: a backup must find what its dump names.

    Runs as the service's account, in its environment, at the lowest priority. Raises OnPremError where it could not run at all.
    """
    started = time.monotonic()
    request = json.dumps({"older_than_ms": seconds_of(older_than) * 1000, "dry_run": dry_run})
    removed: dict[str, int] = {}
    kept: list[Item] = []
    failed: list[Item] = []
    objects = size = 0
    for answer in _ask(host, request):
        if answer["result"] == "removed":
            removed[answer["kind"]] = removed.get(answer["kind"], 0) + 1
            objects, size = objects + answer["objects"], size + answer["bytes"]
            watch(
                f"{'would remove' if dry_run else 'removed'} {answer['kind']} {answer['id']} ({answer['objects']} objects, {answer['bytes']} bytes)"
            )
        else:
            (kept if answer["result"] == "kept" else failed).append(Item(answer["kind"], answer["id"], answer["why"]))
    return Collected(dry_run, older_than, removed, objects, size, tuple(kept), tuple(failed), round(time.monotonic() - started, 1))


def service_environment(host: LocalHost) -> dict[str, str]:
    """What the MLflow service runs with: its EnvironmentFile. Raises Refused where none is installed."""
    text = host.read(SETTINGS)
    if text is None or host.stat(PYTHON) is None:
        raise Refused("there is no stack on this host", "sudo mlflow-onprem install")
    lines = (line for line in text.decode().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def _ask(host: LocalHost, request: str) -> Iterator[Answer]:
    """One answer a line while it runs. The child ends by itself, after the item in hand, where nobody reads on."""
    environment = {**service_environment(host), "HOME": HOME}
    argv = ["nice", "-n", "15", "ionice", "-c", "3", PYTHON, "-m", MODULE]
    home = host.stat(HOME)
    child = host.spawn(argv, user=home.owner if home is not None else "mlflow", env=environment)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    said: list[str] = []
    stream = child.stderr
    reader = threading.Thread(target=lambda: said.extend(stream), daemon=True)
    reader.start()
    child.stdin.write(request)
    child.stdin.close()
    for line in child.stdout:
        yield json.loads(line)
    code = child.wait()
    reader.join()
    if code:
        hint = "what was removed stays removed; fix the cause above (`mlflow-onprem status`), then run the same command again: it goes on"
        raise CommandFailed(f"{PYTHON} -m {MODULE}", code, "".join(said[-TAIL_LINES:]).strip(), hint)
