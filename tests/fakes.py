"""A host in memory: files in a dict, programs as functions, nothing outside of it is touched.

`tests/test_host_contract.py` holds it to the same suite as the real host.
"""

from __future__ import annotations

import itertools
import posixpath
import shlex
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlflow_onprem.core.errors import CommandFailed, NotVisible, OnPremError
from mlflow_onprem.core.host import Result, Stat
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.system.local_host import TAIL_LINES

START = 1_700_000_000.0


class Crashed(BaseException):
    """The run was killed: like SIGKILL, nothing of it goes on, in no thread."""


@dataclass(frozen=True)
class Call:
    """One program as it was started."""

    argv: tuple[str, ...]
    stdin: str | None
    user: str | None
    env: Mapping[str, str]


@dataclass
class Node:
    """One thing in the file system; `content` is a symlink's target for kind symlink."""

    kind: str
    content: bytes
    mode: int
    owner: str
    group: str
    mtime: float
    changed_ns: int


Program = Callable[[Call], Result]


@dataclass
class Clock:
    """Seconds since the epoch; every act takes `step` of them."""

    step: float = 0.001
    now: float = START

    def tick(self) -> float:
        self.now += self.step
        return self.now


@dataclass
class FakeHost:
    """`programs` answer by the last part of argv[0]; `calls`, `said` and `transfers` record what was done.

    `crash_at` counts acts (writes, and runs of programs in `acting`): the run dies right after that one. `deny` are paths only root may see.
    """

    backing: Path | None = None
    is_root: bool = True
    clock: Clock = field(default_factory=Clock)
    nodes: dict[str, Node] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    scripted: dict[tuple[str, ...], Result] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    transfers: list[tuple[str, int, int]] = field(default_factory=list)
    deny: set[str] = field(default_factory=set)
    reads_only: Callable[[tuple[str, ...]], bool] = lambda _argv: False
    acts: int = 0
    crash_at: int | None = None
    fail_at: int | None = None
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._handed: set[str] = set()
        self._lock = threading.RLock()
        self._serial = itertools.count(1)
        self._dead = False
        if "/" not in self.nodes:
            self.nodes["/"] = self._node("directory", b"", 0o755, "root", "root")
            for path in ("/etc", "/opt", "/var/lib", "/var/cache", "/var/tmp", "/run/systemd/system", "/etc/systemd/system", "/usr/bin"):
                self._parents(f"{path}/x")

    @property
    def writes(self) -> int:
        return self.acts

    # how a test looks at it ----------------------------------------------------------------------------------------

    def put(self, path: str, content: str | bytes, mode: int = 0o644, owner: str = "root", group: str = "root") -> None:
        """Have a file there, without it being an act of the run."""
        self._parents(path)
        self.nodes[path] = self._node("file", content.encode() if isinstance(content, str) else content, mode, owner, group)

    def script(self, argv: Sequence[str], *, code: int = 0, out: str = "", err: str = "") -> None:
        """What one exact argument list answers."""
        self.scripted[tuple(argv)] = Result(code, out, err)

    def files(self) -> dict[str, tuple[str, bytes, int, str, str]]:
        """Everything but times."""
        return {path: (n.kind, n.content, n.mode, n.owner, n.group) for path, n in sorted(self.nodes.items())}

    def revive(self) -> None:
        """A new run on the host as the last one left it."""
        self.acts, self.crash_at, self.fail_at, self._dead = 0, None, None, False
        self.log.clear()

    def act(self, what: str) -> None:
        """One change happened: die here where the test wants that."""
        with self._lock:
            self.clock.tick()
            self.acts += 1
            self.log.append(what)
            if self.acts == self.crash_at:
                self._dead = True
                raise Crashed(what)

    def alive(self) -> None:
        """Nothing works for a run that is dead; an act that must fail fails."""
        if self._dead:
            raise Crashed("dead already")

    # the door ------------------------------------------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | Secret | None = None,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        ok: Sequence[int] = (0,),
        hint: str = "",
        tied: bool = False,
        stall: float | None = None,
    ) -> Result:
        self.alive()
        assert all(isinstance(each, str) for each in argv), argv
        text = stdin.reveal() if isinstance(stdin, Secret) else stdin
        call = Call(tuple(argv), text, user, dict(env or {}))
        with self._lock:
            self.calls.append(call)
            acting = not self.reads_only(call.argv)
            if acting and self.fail_at is not None and self.acts + 1 >= self.fail_at:
                self.fail_at = None
                raise CommandFailed(shlex.join(argv), 1, "the test wanted this to fail", hint)
            program = self.programs.get(posixpath.basename(argv[0]))
            if call.argv in self.scripted:
                result = self.scripted[call.argv]
            elif program is not None and (not argv[0].startswith("/") or argv[0] in self.nodes or self.backing is None):
                result = program(call)
            else:
                raise CommandFailed(shlex.join(argv), 127, f"{argv[0]}: not found", hint)
            if acting:
                self.act(f"run {shlex.join(argv)[:120]}")
        if result.code not in ok:
            shown = result.err if result.err.strip() else result.out
            raise CommandFailed(shlex.join(argv), result.code, "\n".join(shown.strip().splitlines()[-TAIL_LINES:]), hint)
        return result

    def read(self, path: str) -> bytes | None:
        node = self._look(self._follow(path))
        if node is not None and node.kind == "directory":
            raise OnPremError(f"{path} is a folder, and a file is wanted there", "name a file, or move the folder away")
        return None if node is None else node.content

    def stat(self, path: str) -> Stat | None:
        node = self._look(path)
        if node is None:
            return None
        return Stat(node.kind, node.mode, node.owner, node.group, len(node.content), node.mtime, node.changed_ns)

    def listdir(self, path: str) -> list[str]:
        self._look(path)
        return sorted({name[len(path.rstrip("/")) + 1 :].partition("/")[0] for name in list(self.nodes) if name.startswith(path.rstrip("/") + "/")})

    def readlink(self, path: str) -> str | None:
        node = self._look(path)
        return node.content.decode() if node is not None and node.kind == "symlink" else None

    def write(self, path: str, content: bytes, *, mode: int, owner: str, group: str) -> None:
        self._act_on(path)
        self._owned(path, owner, group)
        if path in self.nodes and self.nodes[path].kind == "directory":
            raise OnPremError(f"{path} could not be written: Is a directory", "fix that, then run the same command again")
        self.nodes[path] = self._node("file", content, mode, owner, group)
        self.act(f"write {path}")

    def mkdir(self, path: str, *, mode: int, owner: str, group: str) -> None:
        self.alive()
        self._owned(path, owner, group)
        if path in self.nodes and self.nodes[path].kind != "directory":
            raise OnPremError(f"{path} could not be written: File exists", "fix that, then run the same command again")
        self._parents(path)
        self.nodes[path] = self._node("directory", b"", mode, owner, group)
        self.act(f"mkdir {path}")

    def set_attributes(self, path: str, *, mode: int, owner: str, group: str) -> None:
        self._act_on(path)
        self._owned(path, owner, group)
        node = self._look(path)
        if node is None:
            raise OnPremError(f"{path} could not be written: No such file or directory", "fix that, then run the same command again")
        self.nodes[path] = replace(node, mode=mode, owner=owner, group=group, changed_ns=next(self._serial))
        self.act(f"attributes {path}")

    def symlink(self, path: str, target: str) -> None:
        self._act_on(path)
        self.nodes[path] = self._node("symlink", target.encode(), 0o777, "root", "root")
        self.act(f"symlink {path}")

    def rename(self, source: str, target: str) -> None:
        self._act_on(target)
        if self._look(source) is None:
            raise OnPremError(f"{target} could not be written: No such file or directory", "fix that, then run the same command again")
        for path in [each for each in list(self.nodes) if each == source or each.startswith(f"{source}/")]:
            self.nodes[target + path.removeprefix(source)] = self.nodes.pop(path)
        self.act(f"rename {source} {target}")

    def remove(self, path: str) -> None:
        self.alive()
        for each in [each for each in list(self.nodes) if each == path or each.startswith(f"{path}/")]:
            del self.nodes[each]
        if self.backing is not None:
            real = self.backing / path.lstrip("/")
            if real.is_dir() and not real.is_symlink():
                shutil.rmtree(real)
            else:
                real.unlink(missing_ok=True)
        self.act(f"remove {path}")

    def local(self, path: str) -> Path:
        """The part of this host that a test of real file work needs, written out below `backing`; files put there are seen here."""
        if not path.startswith("/"):
            raise ValueError(f"not an absolute path: {path}")
        if self.backing is None:
            raise AssertionError(f"{path}: this fake has no backing folder")
        self.alive()
        self._handed.add(path)
        for each, node in list(self.nodes.items()):
            if each == path or each.startswith(f"{path}/"):
                real = self.backing / each.lstrip("/")
                (real if node.kind == "directory" else real.parent).mkdir(parents=True, exist_ok=True)
                if node.kind == "file" and (not real.is_file() or real.read_bytes() != node.content):
                    real.write_bytes(node.content)
        (self.backing / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        return self.backing / path.lstrip("/")

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, what: str, done: int, total: int) -> None:
        self.transfers.append((what, done, total))

    # inside --------------------------------------------------------------------------------------------------------

    def _node(self, kind: str, content: bytes, mode: int, owner: str, group: str) -> Node:
        return Node(kind, content, mode, owner, group, self.clock.now, next(self._serial))

    def _look(self, path: str) -> Node | None:
        self.alive()
        if not path.startswith("/"):
            raise ValueError(f"not an absolute path: {path}")
        if not self.is_root and any(path == each or path.startswith(f"{each}/") for each in self.deny):
            raise NotVisible(f"only root may look at {path}")
        if path in self._handed and self.backing is not None:
            real, known = self.backing / path.lstrip("/"), self.nodes.get(path)
            if real.is_file() and (known is None or known.content != real.read_bytes()):
                self.nodes[path] = self._node("file", real.read_bytes(), real.stat().st_mode & 0o777, "root", "root")
        return self.nodes.get(path)

    def _follow(self, path: str) -> str:
        node = self.nodes.get(path)
        return posixpath.join(posixpath.dirname(path), node.content.decode()) if node is not None and node.kind == "symlink" else path

    def _parents(self, path: str) -> None:
        for parent in (str(each) for each in Path(path).parents):
            self.nodes.setdefault(parent, self._node("directory", b"", 0o755, "root", "root"))

    def _act_on(self, path: str) -> None:
        self.alive()
        folder = self.nodes.get(posixpath.dirname(path))
        if folder is None or folder.kind != "directory":
            raise OnPremError(f"{path} could not be written: No such file or directory", "fix that, then run the same command again")

    def _owned(self, path: str, owner: str, group: str) -> None:
        """As chown: an account that is not there is an error. Without /etc/passwd every account is there."""
        for name, file in ((owner, "/etc/passwd"), (group, "/etc/group")):
            listed = self.nodes.get(file)
            if self.is_root and listed is not None and not any(line.startswith(f"{name}:".encode()) for line in listed.content.splitlines()):
                raise OnPremError(f"{path} could not be given its owner: {name}", "run `sudo mlflow-onprem install` again")
