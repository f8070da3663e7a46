"""What becomes of a stack that was built by hand: copied, stopped, its files given to their services, its artifacts found again."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base
from mlflow_onprem.system import accounts
from mlflow_onprem.system.hand_built import SERVES_MLFLOW, SERVES_OBJECTS, Ours, Running, look, may_stop, running, starts_it
from mlflow_onprem.system.ports import holders
from mlflow_onprem.system.processes import end

NOTE = "/var/lib/mlflow-onprem/adoption.json"
MARK = "# closed by mlflow-onprem, which found it open to everybody: "


@dataclass(frozen=True)
class CopyState:
    """A dump and a copy of what is replaced are there."""

    holds: str


@dataclass(frozen=True)
class Copy(Base):
    """Before anything is touched: the database's dump and every file that is replaced. `databases` that are not there are left out."""

    folder: str
    databases: tuple[str, ...]
    port: int
    files: tuple[str, ...]
    warnings: tuple[str, ...]
    want: CopyState | None
    #: More for the note, as JSON: how the hand-built server was called is known only while it runs, and needed by a run that goes on later.
    found: str = "{}"

    @property
    def name(self) -> str:
        return f"copy:{self.folder}"

    def observe(self, host: Host) -> CopyState | None:
        note = host.read(NOTE)
        return self.want if note is not None and json.loads(note).get("folder") == self.folder else None

    def apply(self, host: Host, have: CopyState | None) -> None:
        host.remove(self.folder)
        # PostgreSQL's own account writes the dump into a file made for it; nobody may list the folder.
        host.mkdir(self.folder, mode=0o711, owner="root", group="root")
        for path in self.files:
            content = host.read(path)
            if content is not None:
                host.write(f"{self.folder}/{path.strip('/').replace('/', '_')}", content, mode=0o600, owner="root", group="root")
        for each in self.databases:
            dump = f"{self.folder}/{each}.dump"
            host.write(dump, b"", mode=0o600, owner="postgres", group="postgres")
            argv = ["pg_dump", "--format=custom", f"--port={self.port}", "--lock-wait-timeout=60s", f"--file={dump}", each]
            host.run(argv, user="postgres", timeout=86_400, hint="nothing was changed yet; fix the cause above, then run this again")
        note = json.dumps({"folder": self.folder, "warnings": self.warnings, **json.loads(self.found), "done": False})
        host.write(NOTE, f"{note}\n".encode(), mode=0o600, owner="root", group="root")


@dataclass(frozen=True)
class HandStartedState:
    """What holds the port, in words."""

    runs_as: str


@dataclass(frozen=True)
class HandStarted(Base):
    """A hand-built server on one of our ports, or an MLflow on our database: stopped with what keeps it up, so that ours can take over.

    `program` is mlflow or minio; anything else on the port is a stranger and preflight refuses.
    """

    port: int
    program: str
    ours: Ours
    want: HandStartedState | None = None

    @property
    def name(self) -> str:
        return f"started-by-hand:{self.program} on port {self.port}"

    def observe(self, host: Host) -> HandStartedState | None:
        found = self._found(host)
        return HandStartedState(", ".join(f"pid {each.pid} as {each.user}" for each in found)) if found else None

    def apply(self, host: Host, have: HandStartedState | None) -> None:
        end(host, [each.pid for each in self._found(host)], lambda pid: starts_it(host, pid))

    def _found(self, host: Host) -> list[Running]:
        on_port = to_stop(host, self.port, self.program)
        others = running(host, self.ours) if self.program == "mlflow" else []
        return list({each.pid: each for each in (*on_port, *others)}.values())


def to_stop(host: Host, port: int, program: str) -> list[Running]:
    """Processes of a hand-built server that hold a port."""
    serves = SERVES_MLFLOW if program == "mlflow" else SERVES_OBJECTS
    found = (look(host, held.pid) for held in holders(host, port) if held.pid)
    return [each for each in found if each is not None and may_stop(each, serves)]


@dataclass(frozen=True)
class TreeState:
    """Whose everything below it is."""

    owner_of_everything_below: str


@dataclass(frozen=True)
class OwnedTree(Base):
    """Everything in a folder belongs to one account and its `group` (empty: one of the same name)."""

    path: str
    account: str
    want: TreeState | None
    group: str = ""

    @property
    def name(self) -> str:
        return f"tree:{self.path}"

    def observe(self, host: Host) -> TreeState | None:
        found = host.stat(self.path)
        if found is None:
            return None
        known = accounts.look(host, self.account) is not None
        wrong = ["!", "-user", self.account] if known else []
        first = host.run(["find", self.path, "-mindepth", "1", *wrong, "-printf", "%u\\n", "-quit"]).out.strip()
        return TreeState(first or self.account)

    def apply(self, host: Host, have: TreeState | None) -> None:
        if self.want is not None and host.stat(self.path) is not None:
            host.run(["chown", "--recursive", "--no-dereference", f"{self.account}:{self.group or self.account}", self.path], timeout=3600)


@dataclass(frozen=True)
class ClosedLinesState:
    """Lines that let everybody in from everywhere."""

    open_to_everybody: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClosedLines(Base):
    """No line of pg_hba.conf lets every account into every database from every address. What it gave to `others`, databases that
    are not ours, is kept: narrowed to them. The line itself stays as a comment."""

    path: str
    others: tuple[str, ...]
    want: ClosedLinesState | None = ClosedLinesState()

    @property
    def name(self) -> str:
        return f"access:{self.path}"

    def observe(self, host: Host) -> ClosedLinesState | None:
        text = (host.read(self.path) or b"").decode(errors="surrogateescape")
        return ClosedLinesState(tuple(line.strip() for line in text.splitlines() if opens_everything(line)))

    def apply(self, host: Host, have: ClosedLinesState | None) -> None:
        content, found = host.read(self.path), host.stat(self.path)
        assert content is not None
        assert found is not None
        text = close_lines(content.decode(errors="surrogateescape"), self.others)
        host.write(self.path, text.encode(errors="surrogateescape"), mode=found.mode, owner=found.owner, group=found.group)


OPEN_LINE = re.compile(r"^(host\w*\s+)all(\s+all\s+(?:0\.0\.0\.0/0|::/0|::0/0|all|0\.0\.0\.0\s+0\.0\.0\.0)\s+.*)$")


def opens_everything(line: str) -> bool:
    """Whether a line of pg_hba.conf lets every account into every database from every address."""
    match = OPEN_LINE.match(line.strip())
    return match is not None and not match.group(2).split("#")[0].rstrip().endswith("reject")


def close_lines(text: str, others: tuple[str, ...]) -> str:
    """Such lines as comments, followed by the same for `others` alone."""
    lines = []
    for line in text.splitlines():
        if not opens_everything(line):
            lines.append(line)
            continue
        lines.append(MARK + line.strip())
        match = OPEN_LINE.match(line.strip())
        assert match is not None
        lines += [f"{match.group(1)}{','.join(others)}{match.group(2)}"] if others else []
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class AdoptedState:
    """Every step before this one was done."""

    done: bool


@dataclass(frozen=True)
class Adopted(Base):
    """The end of an adoption: from now on the host is like any other."""

    want: AdoptedState | None = AdoptedState(True)

    @property
    def name(self) -> str:
        return "adoption:done"

    def observe(self, host: Host) -> AdoptedState | None:
        note = host.read(NOTE)
        return None if note is None else AdoptedState(bool(json.loads(note).get("done")))

    def apply(self, host: Host, have: AdoptedState | None) -> None:
        note = host.read(NOTE)
        if note is None:
            raise OnPremError("the note of this adoption is gone", "run the same command again")
        host.write(NOTE, (json.dumps({**json.loads(note), "done": True}) + "\n").encode(), mode=0o600, owner="root", group="root")


def stamp() -> str:
    """Now, as part of a folder's name."""
    return time.strftime("%Y%m%d-%H%M%S")
