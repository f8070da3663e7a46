"""Inside a running host: programs started in it, files put there and fetched, its journal."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from mlflow_onprem.core.errors import CommandFailed, OnPremError
from mlflow_onprem.core.host import Result
from mlflow_onprem.system import children
from mlflow_onprem.system.local_host import PASSED_ON, TAIL_LINES, LocalHost, Session
from mlflow_onprem_sandbox import machine, process
from mlflow_onprem_sandbox.spec import Spec


class Guest:
    """What can be done in a host that runs, from this machine."""

    def __init__(self, spec: Spec, host: LocalHost | None = None) -> None:
        self.spec = spec
        self.host = host or LocalHost()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def address(self) -> str:
        return self.spec.address

    @property
    def running(self) -> bool:
        return process.find(self.spec.root) is not None

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        ok: Sequence[int] = (0,),
    ) -> Result:
        """A program inside, as root or another account of the host. Raises CommandFailed, naming only that program."""
        every = range(256)
        result = self.host.run(self._enter(argv, user), stdin=stdin, env=self._environment(env), timeout=timeout, ok=every)
        return result if result.code in ok else self._failed(argv, result)

    def popen(self, argv: Sequence[str], *, user: str | None = None, env: Mapping[str, str] | None = None) -> Session:
        """A program inside that is talked to while it runs."""
        return self.host.spawn(self._enter(argv, user), env=self._environment(env))

    def follow(self, argv: Sequence[str], on_line: Callable[[str], None], *, both: bool = False, timeout: float = 1800) -> Result:
        """A long program inside: what it says on standard error (`both`: and output) is passed on as it comes.

        After `timeout` seconds it is ended with all that it started in there. Raises CommandFailed.
        """
        child = self.popen(argv)
        out: list[str] = []
        err: list[str] = []
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdin.close()

        def read(stream: Iterable[str], into: list[str], show: bool) -> None:
            for line in stream:
                into.append(line)
                if show:
                    on_line(line.rstrip())

        readers = [
            threading.Thread(target=read, args=(child.stdout, out, both), daemon=True),
            threading.Thread(target=read, args=(child.stderr, err, True), daemon=True),
        ]
        for reader in readers:
            reader.start()
        code: int | None = None
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Not the follower alone: the program inside would live on, and hold the pipes that are read here.
            if child.poll() is None:
                children.end(child)
            for reader in readers:
                reader.join(children.GRACE)
        result = Result(-1 if code is None else code, "".join(out), "".join(err))
        if code is None:
            raise CommandFailed(self._named(argv), None, self._tail(result), f"it had {timeout:.0f} seconds")
        return self._failed(argv, result) if code else result

    def shell(self) -> int:
        """A terminal inside, for a person: a login shell of root with a terminal of the host's own."""
        # systemd-run makes a terminal of the host's own: job control, sudo and less work as over ssh.
        settings = [f"--setenv=TERM={os.environ.get('TERM', 'xterm')}", "--property=EnvironmentFile=-/etc/environment", "--working-directory=/root"]
        argv = ["systemd-run", "--pty", "--quiet", "--collect", "--wait", *settings, "/bin/bash", "--login"]
        return self.host.interactive(self._enter(argv, None))

    def push(self, source: Path, target: str) -> None:
        """Copy a file or a folder of this machine to that path inside, owned by root; parent folders are made."""
        self.host.run(["cp", "-rT", "--preserve=mode,links", str(source), str(self._made(target))], timeout=600)

    def pull(self, source: str, target: Path) -> None:
        """Copy a file or a folder of the host to this machine."""
        self.host.run(["cp", "-rT", "--preserve=mode,links,timestamps", str(self.path(source)), str(target)], timeout=600)

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        """A file inside, owned by root."""
        data = content.encode() if isinstance(content, str) else content
        LocalHost().write(str(self._made(path)), data, mode=mode, owner="root", group="root")

    def read(self, path: str) -> bytes:
        """A file inside. Raises FileNotFoundError."""
        return self.path(path).read_bytes()

    def path(self, path: str) -> Path:
        """Where a path of the running host is for this machine, symlinks followed as the host would."""
        return Path(f"/proc/{self.leader()}/root{self.run(['realpath', '-m', path]).out.rstrip()}")

    def _made(self, path: str) -> Path:
        found = self.path(path)
        self.run(["mkdir", "-p", "/".join(("", *found.parts[4:-1]))])
        return found

    def journal(self, *options: str) -> str:
        """What `journalctl` says inside."""
        return self.run(["journalctl", "--no-pager", *options], ok=range(256)).out

    def console(self, lines: int = 20) -> str:
        """The end of what systemd-nspawn and the host's console said."""
        content = self.host.read(str(self.spec.log)) or b""
        return "\n".join(content.decode(errors="replace").splitlines()[-lines:])

    def leader(self) -> int:
        """The host's pid 1 as this machine numbers it. Raises OnPremError where it does not run."""
        supervisor = process.find(self.spec.root)
        found = None if supervisor is None else process.leader(supervisor)
        if found is None:
            raise OnPremError(f"sandbox {self.name} does not run", f"`sudo mlflow-onprem sandbox up --name {self.name}`", self.console())
        return found

    def _failed(self, argv: Sequence[str], result: Result) -> NoReturn:
        raise CommandFailed(self._named(argv), result.code, self._tail(result))

    def _named(self, argv: Sequence[str]) -> str:
        return f"[{self.name}] {shlex.join(argv)}"

    @staticmethod
    def _tail(result: Result) -> str:
        lines = (result.err if result.err.strip() else result.out).strip().splitlines()
        return "\n".join(lines[-TAIL_LINES:])

    def _enter(self, argv: Sequence[str], user: str | None) -> list[str]:
        # Only names stand in the command line: what this machine has and the host must not see is unset, the rest comes as environment.
        hidden = [word for name in PASSED_ON if name not in self._environment(None) for word in ("-u", name)]
        account = ["runuser", "-u", user, "--"] if user else []
        return ["nsenter", f"--target={self.leader()}", "--all", "env", "--chdir=/", *hidden, *account, *argv]

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        carried = {} if self.spec.network == "isolated" else machine.carried(os.environ)
        # With the variable set, install also leaves the folder in place afterwards.
        shared = {"UV_CACHE_DIR": machine.UV_CACHE} if machine.UV_CACHE in dict(self.spec.binds).values() else {}
        return {**carried, **shared, **(extra or {})}
