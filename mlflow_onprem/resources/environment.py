"""A Python environment made from a hash-locked list, one folder a lock."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlflow_onprem.core.errors import CommandFailed, OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base
from mlflow_onprem.resources import permissions
from mlflow_onprem.system import bundle
from mlflow_onprem.system.fetching import run as fetch

CACHE = "/var/cache/mlflow-onprem/uv"
#: Interpreters that uv fetches.
PYTHONS = "/opt/mlflow-onprem/python"
#: Permissions and owner, a tab, and what the fingerprint is made of.
LINE = "%M %u\\t%P %s %T@ %l\\n"
HINT = (
    "what /etc/pip.conf, /etc/uv/uv.toml and the variables of pip and uv say about indexes counts here (index-url or PIP_INDEX_URL for a mirror), "
    "and so do a proxy in /etc/environment and every authority that this host trusts; then run the same command again"
)
NO_PYTHON = (
    "no Python {version} is on this host or in its package lists, and the standalone one could not be fetched; set `python` in [mlflow] of "
    '/etc/mlflow-onprem/config.toml to the version that `python3 --version` prints (3.10 to 3.13), for example python = "{other}"; {hint}'
)


@dataclass(frozen=True)
class EnvironmentState:
    """Which lock it was made from, whether every file in it is as it was left, and who may read and write it."""

    lock: str
    intact: bool = True
    permissions: str = permissions.RIGHT


@dataclass(frozen=True)
class Environment(Base):
    """`directory` with Python `python` (a path, or a version that uv fetches), the locked packages and `extra` ones; `path` is importable, too.

    `why` is said when it is made: why it has this Python, where that is not the usual one.
    """

    directory: str
    python: str
    requirements: str
    want: EnvironmentState | None
    extra: tuple[str, ...] = ()
    path: str = ""
    uv: str = "uv"
    why: str = ""

    @property
    def name(self) -> str:
        return f"environment:{self.directory}"

    def observe(self, host: Host) -> EnvironmentState | None:
        text = host.read(f"{self.directory}/environment.json")
        if text is None:
            return None
        try:
            record = json.loads(text)
            files, allowed = survey(host, self.directory)
            allowed = permissions.look(host, *self._trees()[1:]) if allowed == permissions.RIGHT else allowed
            return EnvironmentState(str(record["lock"]), files == record["files"] and has_python(host, self.directory), allowed)
        except (ValueError, KeyError):
            return EnvironmentState("unreadable", False)

    def apply(self, host: Host, have: EnvironmentState | None) -> None:
        if self.want is not None and have is not None and replace(have, permissions=permissions.RIGHT) == self.want:
            permissions.repair(host, *self._trees())
            return
        host.remove(self.directory)
        if self.want is None:
            return
        if self.why:
            host.say(self.why)
        cache = {} if "UV_CACHE_DIR" in os.environ else {"UV_CACHE_DIR": CACHE}
        self._venv(host, cache)
        lock = f"{self.directory}/requirements.txt"
        host.write(lock, self.requirements.encode(), mode=0o644, owner="root", group="root")
        # Hard links only from a cache that is thrown away below: a file damaged here must not come back damaged from one that stays.
        link = "hardlink" if cache else "copy"
        install = [self.uv, "pip", "install", "--python", f"{self.directory}/bin/python", "--link-mode", link, "--quiet"]
        install += bundle.pip_options(host, self.requirements)
        fetch(host, [*install, "--require-hashes", "--only-binary", ":all:", "-r", lock], env=cache, timeout=3600, hint=HINT, tied=True)
        if self.extra:
            fetch(host, [*install, "--constraint", lock, *self.extra], env=cache, timeout=3600, hint=HINT, tied=True)
        self._compile(host)
        self._add_path(host)
        if cache:
            host.remove(CACHE)
        # uv leaves a lock of its own in each, which everybody may write (0666 whatever the umask); it does not run in here again.
        for tree in self._trees():
            host.remove(f"{tree}/.lock")
        record = {"lock": self.want.lock, "files": fingerprint(host, self.directory)}
        host.write(f"{self.directory}/environment.json", (json.dumps(record) + "\n").encode(), mode=0o644, owner="root", group="root")

    def _trees(self) -> tuple[str, ...]:
        return (self.directory,) if self.python.startswith("/") else (self.directory, PYTHONS)

    def _venv(self, host: Host, settings: Mapping[str, str]) -> None:
        try:
            fetch(
                host,
                [self.uv, "venv", "--quiet", "--no-project", "--python", self.python, self.directory],
                env={**settings, "UV_PYTHON_INSTALL_DIR": PYTHONS},
                timeout=1800,
                tied=True,
            )
        except CommandFailed as failed:
            if self.python.startswith("/"):
                raise
            other = re.sub(r"^Python (\d+\.\d+).*", r"\1", host.run(["python3", "--version"], ok=(0, 127)).out.strip())
            raise OnPremError(
                f"there is no Python {self.python}", NO_PYTHON.format(version=self.python, other=other, hint=failed.hint).rstrip("; "), failed.output
            ) from failed

    def _compile(self, host: Host) -> None:
        """Byte code of everything but the packages' own test suites: nobody imports those, and they are 43 % of the work."""
        argv = [f"{self.directory}/bin/python", "-m", "compileall", "-q", "-j", "0", "-x", "/tests?/", f"{self.directory}/lib"]
        # 1: a package carries a file that is no Python of this version, such as a template.
        host.run(argv, env={"PYTHONPYCACHEPREFIX": ""}, ok=(0, 1), timeout=1800, tied=True)

    def _add_path(self, host: Host) -> None:
        """Make what stands in the folder `path` importable: our own modules, which are not part of the lock."""
        site = host.run([f"{self.directory}/bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).out.strip()
        host.write(f"{site}/mlflow-onprem.pth", f"{self.path}\n".encode(), mode=0o644, owner="root", group="root")


def has_python(host: Host, directory: str) -> bool:
    """Whether the interpreter that the environment was made with is still there: a release upgrade takes it, and no file in here changes by that."""
    path = f"{directory}/bin/python"
    for _ in range(8):
        target = host.readlink(path)
        if target is None:
            return host.stat(path) is not None
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return False


def lock_key(requirements: str, python: str, extra: tuple[str, ...]) -> str:
    """A short name for everything an environment is made of."""
    total = hashlib.sha256()
    for part in (requirements, python, *extra):
        total.update(part.encode() + b"\0")
    return total.hexdigest()[:12]


def fingerprint(host: Host, directory: str) -> str:
    """One word for names, sizes and times of all files, none of which is read."""
    return survey(host, directory)[0]


def survey(host: Host, directory: str) -> tuple[str, str]:
    """The fingerprint, and what permissions.look says, from one walk: `find` looks at 17,000 files in 0.1 s.

    Byte code is left out, Python may write it anew.
    """
    argv = ["find", f"{directory}/", "-name", "__pycache__", "-prune", "-printf", LINE, "-o", "!", "-name", "environment.json", "-printf", LINE]
    rows = [row.partition("\t")[::2] for row in host.run(argv).out.splitlines()]
    files = sorted(row for about, row in rows if not about.startswith("d"))
    fine = {about for about in {about for about, _ in rows} if permissions.fine(about, by_root=host.is_root)}
    wrong = [(about, row) for about, row in rows if about not in fine]
    shown = permissions.differing(len(wrong), wrong[0][0], f"{directory}/{wrong[0][1].split(' ')[0]}") if wrong else permissions.RIGHT
    return hashlib.sha256("\n".join(files).encode()).hexdigest(), shown
