"""What an object store keeps on its own disk, read without asking the store.

MinIO keeps each object in a folder of its name, with its data in `xl.meta` there or beside it. An object `a` and an object `a/b` both have
their place, and every listing ends at `a`: what is below it can be read by name, and nothing in S3's protocol tells the names. The disk does.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_META = "xl.meta"
# An object whose name ends in a slash is kept in a folder with this at its end.
_FOLDER_MARK = "__XLDIR__"
_DATA = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def bucket_folder(data: Path, bucket: str) -> Path | None:
    """Where the bucket is in a store's data folder; None where that is not of a kind that this module can read."""
    try:
        kind = json.loads((data / ".minio.sys" / "format.json").read_bytes()).get("format")
    except (OSError, ValueError, AttributeError):
        return None
    folder = data / bucket
    return folder if kind in ("xl-single", "xl") and folder.is_dir() else None


def keys(folder: Path) -> Iterator[str]:
    """The key of every object in a bucket's folder, in the order of a store's listing.

    Also of objects whose last version is a mark of deletion: whether one can be read is the store's to say.
    Memory is in proportion to the largest folder, not to the bucket.
    """
    stack = [iter(_level(os.fspath(folder), ""))]
    while stack:
        key, path = next(stack[-1], (None, ""))
        if key is None:
            stack.pop()
        elif path:
            stack.append(iter(_level(path, key)))
        else:
            yield key


class Above:
    """The objects whose names the key in hand begins with, for keys in the order of a listing."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def add(self, key: str) -> None:
        """There is an object of that name; call `over` for it first."""
        self._names.append(key)

    def over(self, key: str) -> list[str]:
        """The objects in the place of one of the key's folders, the outermost first."""
        while self._names and not key.startswith(self._names[-1]):
            self._names.pop()
        return [each for each in self._names if key[len(each) : len(each) + 1] == "/" and len(key) > len(each) + 1]


def overlaps(ordered: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Of keys in the order of a listing: each one that has an object in the place of one of its folders, after that object (the outermost)."""
    above = Above()
    for key in ordered:
        if hiders := above.over(key):
            yield hiders[0], key
        above.add(key)


def _level(path: str, prefix: str) -> list[tuple[str, str]]:
    """One folder's objects (with an empty path) and folders, in the order of keys: `a` before `a-b` before what is in `a/`."""
    found: list[tuple[str, str]] = []
    for name in _folders(path)[0]:
        inner = f"{path}/{name}"
        below, is_object = _folders(inner)
        if is_object:
            marked = name.endswith(_FOLDER_MARK)
            found.append((prefix + (name.removesuffix(_FOLDER_MARK) + "/" if marked else name), ""))
            below = [each for each in below if not _is_data(f"{inner}/{each}", each)]
        if below and not name.endswith(_FOLDER_MARK):
            found.append((f"{prefix}{name}/", inner))
    # A marked folder and the folder itself have the same key: the object comes first.
    return sorted(found)


def _folders(path: str) -> tuple[list[str], bool]:
    """The folders in a folder, and whether the folder is an object."""
    names, is_object = [], False
    try:
        with os.scandir(path) as entries:
            for each in entries:
                if each.is_dir(follow_symlinks=False):
                    names.append(each.name)
                elif each.name == _META:
                    is_object = True
    except (FileNotFoundError, NotADirectoryError):  # deleted while we look
        return [], False
    return names, is_object


def _is_data(path: str, name: str) -> bool:
    """Whether a folder in an object's own is its data, and not an object or a folder of others."""
    return _DATA.fullmatch(name) is not None and _folders(path) == ([], False)
