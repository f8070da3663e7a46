"""Where backups are kept: a folder, or a prefix in another S3 store. Both hold the same names."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host

CHUNK = 1 << 20
#: Unfinished files of this host, whatever the repository is.
SPOOL = "/var/lib/mlflow-onprem/backup"
POOL = "objects/"


class Source(Protocol):
    """Bytes as they come."""

    def read(self, amount: int = -1, /) -> bytes: ...


class Repository(Protocol):
    """What backups need of a place. Names are relative, with slashes. Every method raises OnPremError."""

    @property
    def address(self) -> str: ...
    def names(self, prefix: str) -> Iterator[tuple[str, int]]: ...
    def put(self, name: str, path: Path) -> None: ...
    def read(self, name: str) -> bytes | None: ...
    def open(self, name: str) -> Iterator[bytes]: ...
    def store(self, source: Source, size: int) -> str: ...
    def remove(self, names: Iterable[str]) -> None: ...
    def free(self) -> int | None: ...
    def settle(self) -> None: ...


class Missing(OnPremError):
    """A file of a backup is not there."""

    def __init__(self, name: str, address: str) -> None:
        super().__init__(f"{name} is missing in {address}", "this backup is damaged: take another one (`mlflow-onprem backup list`)")


def pool_name(sha256: str) -> str:
    """Where the pool keeps content."""
    return f"{POOL}{sha256[:2]}/{sha256}"


@dataclass(frozen=True)
class Folder:
    """A directory of this host, closed to everybody but root."""

    host: Host
    path: str

    @property
    def address(self) -> str:
        return self.path

    def names(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Files whose name starts with the prefix (which ends with a slash), with their size in bytes; without order, temporary ones left out."""
        top = self._at(prefix)
        with _explained(self.path):
            for folder, _, files in os.walk(top):
                for file in files:
                    path = Path(folder) / file
                    if not file.startswith("."):
                        yield str(path.relative_to(self._at(""))), path.lstat().st_size

    def put(self, name: str, path: Path) -> None:
        """A file of this host under that name, in one step."""
        with path.open("rb") as source, self._writing(name) as file:
            shutil.copyfileobj(source, file, CHUNK)

    def read(self, name: str) -> bytes | None:
        """A small file, None where there is none."""
        try:
            with _explained(self.path):
                return self._at(name).read_bytes()
        except FileNotFoundError:
            return None

    def open(self, name: str) -> Iterator[bytes]:
        """A file in pieces."""
        try:
            with _explained(self.path), self._at(name).open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except FileNotFoundError:
            raise Missing(name, self.path) from None

    def store(self, source: Source, size: int) -> str:
        """Put content into the pool and return its sha256. What may be there of a run that died is replaced."""
        digest = hashlib.sha256()
        with _explained(self.path):
            pool = self._at(POOL)
            pool.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=pool, prefix=".new-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    while chunk := source.read(CHUNK):
                        digest.update(chunk)
                        file.write(chunk)
                target = self._at(pool_name(digest.hexdigest()))
                target.parent.mkdir(mode=0o700, exist_ok=True)
                Path(temporary).replace(target)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        return digest.hexdigest()

    def remove(self, names: Iterable[str]) -> None:
        """Files, and folders they leave empty; nothing there is fine."""
        with _explained(self.path):
            for name in names:
                path = self._at(name)
                path.unlink(missing_ok=True)
                if name.startswith("backups/") and path.parent.is_dir() and not any(path.parent.iterdir()):
                    path.parent.rmdir()

    def free(self) -> int | None:
        """Bytes that may still be written."""
        with _explained(self.path):
            self._at("").mkdir(mode=0o700, parents=True, exist_ok=True)
            return shutil.disk_usage(self._at("")).free

    def settle(self) -> None:
        """Everything written so far is on the disk, and what runs that died have left is gone."""
        with _explained(self.path):
            for name in self.host.listdir(f"{self.path}/objects"):
                if name.startswith(".new-"):
                    self._at(f"objects/{name}").unlink(missing_ok=True)
        self.host.run(["sync", "--file-system", str(self._at(""))], timeout=3600)

    def _at(self, name: str) -> Path:
        return self.host.local(f"{self.path}/{name}" if name else self.path)

    @contextmanager
    def _writing(self, name: str) -> Iterator[BinaryIO]:
        target = self._at(name)
        temporary = target.with_name(f".{target.name}.new")
        with _explained(self.path):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    os.fchmod(file.fileno(), 0o600)
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            self._fsync(target.parent)

    @staticmethod
    def _fsync(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def pieces(chunks: Iterator[bytes]) -> Source:
    """A file-like view of bytes that come in pieces."""
    return _Pieces(chunks)


class _Pieces:
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, amount: int = -1, /) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while amount < 0 or have < amount:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            parts.append(chunk)
            have += len(chunk)
        whole = b"".join(parts)
        cut = len(whole) if amount < 0 else amount
        self._rest = whole[cut:]
        return whole[:cut]


class Counted:
    """A source that tells how much was read of it."""

    def __init__(self, source: Source, on_bytes: Callable[[int], None]) -> None:
        self._source, self._on_bytes = source, on_bytes

    def read(self, amount: int = -1, /) -> bytes:
        """The next bytes."""
        chunk = self._source.read(amount)
        self._on_bytes(len(chunk))
        return chunk


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as failed:
        hints = {
            errno.ENOSPC: "the disk is full: free some space or name a larger one with --to; the next run resumes from here",
            errno.EDQUOT: "the quota is used up: free some space or name another place with --to",
            errno.EROFS: "that filesystem is mounted read-only: remount it writable, or name another place with --to",
            errno.EACCES: "run it with sudo",
        }
        hint = hints.get(failed.errno or 0, "fix that, then run the same command again")
        raise OnPremError(f"{failed.filename or path}: {failed.strerror}", hint) from failed
