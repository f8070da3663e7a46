"""The only module that talks to the operating system: processes, files, accounts.

`LocalHost(root=...)` maps every path below another root, so file work is tested for real without privileges.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import shlex
import shutil
import signal
import stat as stat_module
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mlflow_onprem.core.errors import CommandFailed, NotVisible, OnPremError, Stalled
from mlflow_onprem.core.host import Result, Stat
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.system import children
from mlflow_onprem.system.umask import UMASK, make_parents, private

TAIL_LINES = 20
#: A program that is talked to while it runs.
Session: TypeAlias = "subprocess.Popen[str]"
#: What a child inherits besides PATH and the locale: a company's proxy and CA reach apt, pip, uv and our own requests alike.
PASSED_ON = (
    "http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_CACHE_DIR", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_PYTHON_INSTALL_MIRROR",
    "UV_FIND_LINKS", "UV_OFFLINE", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOFLAGS", "TMPDIR",
)  # fmt: skip
#: The kernel's own way to end a child with its parent, by the program that every Debian has (util-linux).
TIED = ("setpriv", "--pdeathsig", "KILL", "--")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LocalHost:
    """This machine, or the tree below `root`."""

    def __init__(self, root: str | Path = "/") -> None:
        self.root = Path(root)
        self.on_say: Callable[[str], None] = lambda _: None
        self.on_progress: Callable[[str, int, int], None] = lambda *_: None
        self._children: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._writes = 0

    @property
    def is_root(self) -> bool:
        return os.geteuid() == 0

    @property
    def writes(self) -> int:
        """How often a file was changed through it; who remembers what a file decides looks again when it grew."""
        return self._writes

    def local(self, path: str) -> Path:
        """Where `path` is for this process."""
        if not path.startswith("/"):
            raise ValueError(f"not an absolute path: {path}")
        return Path(path) if self.root == Path("/") else self.root / path.lstrip("/")

    def say(self, text: str) -> None:
        """Tell whoever watches what we are waiting for."""
        self.on_say(text)

    def progress(self, what: str, done: int, total: int) -> None:
        """Tell whoever watches how far a transfer is, in bytes; `total` is 0 where it is not known."""
        self.on_progress(what, done, total)

    # processes -----------------------------------------------------------------------------------------------------

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
        """Run a program without a shell, with a small environment and its input closed or given.

        `tied`: it is killed when we are, where left alone it would go on writing into what the next run makes anew.
        `stall`: it is ended, with all it started, when it has got nothing done for so many seconds; for programs that fetch (fetching.py).
        `timeout` is in seconds. Raises CommandFailed for any exit status not in `ok`, and for a program that is not there; Stalled.
        """
        text = stdin.reveal() if isinstance(stdin, Secret) else stdin
        command = shlex.join(argv)
        try:
            child = self.spawn([*(TIED if tied else ()), *argv], user=user, env=env, with_input=text is not None)
        except FileNotFoundError as missing:
            raise CommandFailed(command, 127, f"{argv[0]}: not found", hint) from missing
        try:
            out, err = children.talk(child, text, timeout, stall)
        except subprocess.TimeoutExpired as late:
            where = children.peers(children.family(child.pid))
            children.end(child)
            said = _tail(children.rest(child))
            if isinstance(late, children.StoodStill):
                raise Stalled(command, late.timeout, said, hint, where) from late
            raise CommandFailed(command, None, said, hint or f"it had {timeout:.0f} seconds") from late
        except BaseException:
            children.end(child)
            raise
        finally:
            with self._lock:
                self._children.discard(child)
        if child.returncode not in ok:
            raise CommandFailed(command, child.returncode, _tail(err if err.strip() else out), hint)
        return Result(child.returncode, out, err)

    def spawn(
        self, argv: Sequence[str], *, user: str | None = None, env: Mapping[str, str] | None = None, with_input: bool = True
    ) -> subprocess.Popen[str]:
        """Start a program that is talked to over its standard input and output."""
        settings = self._account(user)
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if with_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment(env),
            cwd="/",
            umask=UMASK,
            start_new_session=True,  # Ctrl-C reaches us, not apt in the middle of a package
            **settings,
        )
        with self._lock:
            self._children.add(child)
        return child

    def pipe(
        self,
        argv: Sequence[str],
        *,
        source: Path | None = None,
        target: Path | None = None,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        hint: str = "",
    ) -> None:
        """Run a program with its input from a file, its output into one, of any size and content; it may take as long as it takes.

        Raises CommandFailed, OnPremError where a file cannot be opened.
        """
        place = str(target or source)
        with _writing(place), contextlib.ExitStack() as files:
            fed = files.enter_context(source.open("rb")) if source else subprocess.DEVNULL
            kept = files.enter_context(private(target)) if target else subprocess.DEVNULL
            try:
                # Our own descriptors: the program's account need not be able to open these files.
                child = subprocess.Popen(
                    list(argv), stdin=fed, stdout=kept, stderr=subprocess.PIPE, text=True, errors="replace", env=environment(env), cwd="/",
                    umask=UMASK, start_new_session=True, **self._account(user),
                )  # fmt: skip
            except FileNotFoundError as missing:
                raise CommandFailed(shlex.join(argv), 127, f"{argv[0]}: not found", hint) from missing
            with self._lock:
                self._children.add(child)
            try:
                _, err = child.communicate()
            except BaseException:
                children.end(child)
                raise
            finally:
                with self._lock:
                    self._children.discard(child)
        if child.returncode:
            raise CommandFailed(shlex.join(argv), child.returncode, _tail(err), hint)

    def _account(self, user: str | None) -> dict[str, Any]:
        if user is None or not self.is_root:
            return {}
        account = pwd.getpwnam(user)
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": os.getgrouplist(user, account.pw_gid)}

    def interactive(self, argv: Sequence[str]) -> int:
        """Hand the terminal to a program until it ends; returns its exit status."""
        return subprocess.run(list(argv), env=environment(), cwd="/", umask=UMASK, check=False).returncode

    def stop_children(self) -> None:
        """Ask every program that still runs for us to end (after Ctrl-C)."""
        with self._lock:
            children = list(self._children)
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)

    # files ---------------------------------------------------------------------------------------------------------

    def read(self, path: str) -> bytes | None:
        """The content, or None where there is no such file. Raises NotVisible where this user may not look, OnPremError for a folder."""
        with _looking(path):
            try:
                return self.local(path).read_bytes()
            except (FileNotFoundError, NotADirectoryError, ProcessLookupError):  # the last for a process that ends while /proc tells of it
                return None

    def stat(self, path: str) -> Stat | None:
        """What is at the path itself (a symlink is not followed), or None. Raises NotVisible."""
        with _looking(path):
            try:
                found = self.local(path).lstat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        kind = {stat_module.S_IFREG: "file", stat_module.S_IFDIR: "directory", stat_module.S_IFLNK: "symlink"}
        return Stat(
            kind.get(stat_module.S_IFMT(found.st_mode), "other"),
            stat_module.S_IMODE(found.st_mode),
            _user_name(found.st_uid),
            _group_name(found.st_gid),
            found.st_size,
            found.st_mtime,
            found.st_ctime_ns,
        )

    def listdir(self, path: str) -> list[str]:
        """Sorted names in a directory; empty where there is none. Raises NotVisible."""
        with _looking(path):
            try:
                return sorted(entry.name for entry in self.local(path).iterdir())
            except (FileNotFoundError, NotADirectoryError):
                return []

    def readlink(self, path: str) -> str | None:
        """Where a symlink points, or None where there is none."""
        try:
            return os.readlink(self.local(path))
        except OSError:
            return None

    def write(self, path: str, content: bytes, *, mode: int, owner: str, group: str) -> None:
        """Replace a file in one step: its mode and owner are right before its content is there, and a crash leaves the old or the new.

        Raises OnPremError where the disk is full or read-only.
        """
        target = self.local(path)
        with self._changing(path):
            # Always the same name: what a run left that was killed right here is taken up by the next.
            temporary = target.with_name(f".{target.name}.new")
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    os.fchmod(file.fileno(), mode)
                    self._chown(file.fileno(), owner, group)
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _fsync_directory(target.parent)

    def mkdir(self, path: str, *, mode: int, owner: str, group: str) -> None:
        """Make a directory and, root-owned and 0755, whatever leads to it."""
        target = self.local(path)
        with self._changing(path):
            make_parents(target)
            target.mkdir(exist_ok=True, mode=0o700)
            self.set_attributes(path, mode=mode, owner=owner, group=group)
            _fsync_directory(target.parent)

    def set_attributes(self, path: str, *, mode: int, owner: str, group: str) -> None:
        """Set owner, then mode (a chown drops setuid bits, so this order)."""
        target = self.local(path)
        with self._changing(path):
            self._chown(target, owner, group)
            target.chmod(mode)

    def symlink(self, path: str, target: str) -> None:
        """Point a symlink somewhere else in one step."""
        link = self.local(path)
        temporary = link.with_name(f".{link.name}.new")
        with self._changing(path):
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target)
            temporary.replace(link)
            _fsync_directory(link.parent)

    def rename(self, source: str, target: str) -> None:
        """Move within one filesystem, in one step."""
        with self._changing(target):
            self.local(source).replace(self.local(target))
            _fsync_directory(self.local(target).parent)

    def remove(self, path: str) -> None:
        """Remove a file, a symlink or a whole directory; nothing there is fine."""
        target = self.local(path)
        with self._changing(path):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _changing(self, path: str) -> Iterator[None]:
        with _writing(path):
            yield
            with self._lock:
                self._writes += 1

    def _chown(self, what: int | Path, owner: str, group: str) -> None:
        if self.is_root:
            os.chown(what, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every program we start: a fixed path and locale, proxy and CA settings, and what the caller adds."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **passed, **(extra or {})}


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-TAIL_LINES:])


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _looking(path: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as denied:
        raise NotVisible(f"only root may look at {path}") from denied
    except IsADirectoryError as folder:
        raise OnPremError(f"{path} is a folder, and a file is wanted there", "name a file, or move the folder away") from folder


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except KeyError as missing:
        raise OnPremError(f"{path} could not be given its owner: {missing.args[0]}", "run `sudo mlflow-onprem install` again") from missing
    except OSError as failed:
        hints = {
            errno.ENOSPC: "the disk is full: free some space (`df -h`), then run the same command again",
            errno.EDQUOT: "the quota is used up: free some space, then run the same command again",
            errno.EROFS: "that filesystem is mounted read-only: remount it writable, then run the same command again",
            errno.EACCES: "run it with sudo",
            errno.EPERM: "run it with sudo; a file marked immutable shows an `i` in `lsattr`",
        }
        hint = hints.get(failed.errno or 0, "fix that, then run the same command again")
        raise OnPremError(f"{path} could not be written: {failed.strerror}", hint) from failed
