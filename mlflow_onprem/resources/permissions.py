"""Who may read a tree of programs: everybody; who may write it: root alone; and the way there for a service's account.

Made under the umask of a hardened image (027, 077) by an earlier release, both may be root's alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host, Stat
from mlflow_onprem.core.resource import Base

#: What a plan shows of a tree that is right.
RIGHT = "all may read, root may write"


def fine(about: str, *, by_root: bool) -> bool:
    """Whether these permissions and this owner, as `find` prints them (`-rw-r--r-- root`), are right. `by_root`: it has to be root's."""
    bits, _, owner = about.partition(" ")
    readable = bits[4] == bits[7] == "r" and "w" not in (bits[5], bits[8])
    passable = bits[0] != "d" or (bits[6] in "xs" and bits[9] in "xt")
    return (bits[0] == "l" or (readable and passable)) and (owner == "root" or not by_root)


def look(host: Host, *directories: str) -> str:
    """RIGHT, or what is not. Byte code is judged by the folder it is in: it was made by the same program, and 17,000 files less are looked at."""
    there = [f"{each}/" for each in directories if host.stat(each) is not None]
    if not there:
        return RIGHT
    owner = ["-o", "!", "-user", "root"] if host.is_root else []
    wrong = ["(", "-perm", "/022", "-o", "!", "-perm", "-444", "-o", "-type", "d", "!", "-perm", "-111", *owner, ")"]
    argv = ["find", *there, "-path", "*/__pycache__/*", "-prune", "-o", "!", "-type", "l", *wrong, "-printf", "%M %u\\t%p\\n"]
    rows = host.run(argv).out.splitlines()
    if not rows:
        return RIGHT
    about, _, path = rows[0].partition("\t")
    return differing(len(rows), about, path)


def differing(count: int, about: str, path: str) -> str:
    """What a plan shows of a tree that is not right. `about`: permissions and owner."""
    return f"{count} files or folders differ, the first is {about.replace(' ', ' of ')}: {path}"


def repair(host: Host, *directories: str) -> None:
    """Make it so for everything in these folders. What may be executed stays so."""
    for each in directories:
        if host.stat(each) is not None:
            host.run(["chown", "--recursive", "--no-dereference", "root:root", each], timeout=600)
            host.run(["chmod", "--recursive", "u=rwX,go=rX", each], timeout=600)


@dataclass(frozen=True)
class WayState:
    """Folders on the way that the account may not enter."""

    barred: tuple[str, ...] = ()


@dataclass(frozen=True)
class Way(Base):
    """`account` can get to `path` (a folder that is there by now): it may enter every folder that leads there.

    A folder of root's is opened, as little as does it; one of somebody else's is not touched, preflight refuses it.
    """

    path: str
    account: str
    want: WayState | None = WayState()

    @property
    def name(self) -> str:
        return f"way:{self.path}"

    def observe(self, host: Host) -> WayState | None:
        if self.want is None:
            return None
        return WayState(tuple(path for path, found in self._leading(host) if self._barred(host, path, found)))

    def apply(self, host: Host, have: WayState | None) -> None:
        if self.want is None:
            return
        self.check_may_open(host)
        for path, found in self._leading(host):
            if not self._barred(host, path, found):
                continue
            # One that holds nothing but this was made for it: everybody may look at it. Another one's content stays unseen.
            mode = found.mode | (0o055 if len(host.listdir(path)) == 1 else 0o011)
            host.set_attributes(path, mode=mode, owner=found.owner, group=found.group)

    def check_may_open(self, host: Host) -> None:
        """Raises OnPremError where a folder of somebody else's bars the way."""
        for path, found in self._leading(host):
            if found.owner != "root" and self._barred(host, path, found):
                raise OnPremError(
                    f"the account {self.account} cannot get to {self.path}: {path} belongs to {found.owner} and lets nobody through "
                    f"(mode {found.mode:04o})",
                    f"let it pass: `sudo chmod o+x {path}`, or `sudo setfacl -m u:{self.account}:x {path}`; or choose another folder",
                )

    def _leading(self, host: Host) -> list[tuple[str, Stat]]:
        folders = [str(each) for each in reversed(PurePosixPath(self.path).parents) if str(each) != "/"]
        return [(path, found) for path in folders if (found := host.stat(path)) is not None and found.kind == "directory"]

    def _barred(self, host: Host, path: str, found: Stat) -> bool:
        if found.mode & 0o001 or (found.owner == self.account and found.mode & 0o100):
            return False
        if not host.is_root or host.run(["id", "-u", self.account], ok=(0, 1)).code:
            return True  # it cannot be tried, or there is no such account yet
        # A group of it, or an access list, may let it in.
        return host.run(["test", "-x", path], user=self.account, ok=(0, 1)).code != 0
