"""What a resource may ask of a host and do to it. The one implementation for a real host is system/local_host.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlflow_onprem.core.secret import Secret


@dataclass(frozen=True)
class Result:
    """What a program left behind."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Stat:
    """What we manage of a path. `kind` is file, directory, symlink or other.

    `mtime` is in seconds since the epoch, `changed_ns` the inode's change time in ns.
    """

    kind: str
    mode: int
    owner: str
    group: str
    size: int
    mtime: float
    changed_ns: int


class Host(Protocol):
    """Everything a resource may do to a host."""

    @property
    def is_root(self) -> bool: ...
    @property
    def writes(self) -> int: ...
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
    ) -> Result: ...
    def read(self, path: str) -> bytes | None: ...
    def stat(self, path: str) -> Stat | None: ...
    def listdir(self, path: str) -> list[str]: ...
    def readlink(self, path: str) -> str | None: ...
    def write(self, path: str, content: bytes, *, mode: int, owner: str, group: str) -> None: ...
    def mkdir(self, path: str, *, mode: int, owner: str, group: str) -> None: ...
    def set_attributes(self, path: str, *, mode: int, owner: str, group: str) -> None: ...
    def symlink(self, path: str, target: str) -> None: ...
    def rename(self, source: str, target: str) -> None: ...
    def remove(self, path: str) -> None: ...
    def local(self, path: str) -> Path: ...
    def say(self, text: str) -> None: ...
    def progress(self, what: str, done: int, total: int) -> None: ...
