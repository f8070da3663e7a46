"""Locks on names in the bucket, between all threads and worker processes of this service.

Whoever writes `a/b/c` holds that name alone and shares `a` and `a/b` with others: two writers wait for each other only where one's file is
the other's folder, or where both write the same file. The kernel drops the locks of a process that dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import secrets
import struct
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

# From <fcntl.h>: locks that belong to an open file and not to the process, so that threads count, too.
_F_OFD_SETLKW = 38
_FLOCK = "hhqqi4x"
_SLOT = 8
_SLOTS = 1 << 16
_FILE = "object-names"


class PathLocks:
    """A file whose byte ranges stand for names, and whose content says of each name (roughly) when it was last written."""

    def __init__(self, folder: str | None = None) -> None:
        # systemd names the folder that all workers share, and that nobody cleans by age.
        self._path = Path(folder or os.environ.get("STATE_DIRECTORY") or tempfile.gettempdir()) / _FILE
        descriptor = self._open()
        try:
            os.ftruncate(descriptor, _SLOT * _SLOTS)
            self._table = mmap.mmap(descriptor, _SLOT * _SLOTS)
        finally:
            os.close(descriptor)

    @contextmanager
    def hold(self, name: str, shared: Iterable[str]) -> Iterator[None]:
        """Hold `name` alone and `shared` together with others, for as long as the context lasts."""
        with self.take(name, shared):
            yield

    def take(self, name: str, shared: Iterable[str]) -> FileIO:
        """The same, as an open file: it lets go when it is closed, or forgotten."""
        wanted = {_place(each): fcntl.F_RDLCK for each in shared} | {_place(name): fcntl.F_WRLCK}
        held = FileIO(self._open(), "r+")
        try:
            # Everybody takes them in one order: nobody waits for one who waits for him.
            for place in sorted(wanted):
                fcntl.fcntl(held, _F_OFD_SETLKW, struct.pack(_FLOCK, wanted[place], os.SEEK_SET, place, 1, 0))
        except BaseException:
            held.close()
            raise
        return held

    def generation(self, name: str) -> bytes:
        """Changes with every write of that name; while the name is held, it stands still."""
        at = _place(name) % _SLOTS * _SLOT
        return bytes(self._table[at : at + _SLOT])

    def written(self, name: str) -> None:
        """Say that an object of that name is about to be there; call it while the name is held alone."""
        at = _place(name) % _SLOTS * _SLOT
        self._table[at : at + _SLOT] = secrets.token_bytes(_SLOT)

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _place(name: str) -> int:
    # 62 bits: two names that share a place would wait for each other, and nothing else.
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 2
