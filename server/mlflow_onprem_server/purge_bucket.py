"""The bucket as `gc` sees it: what is below a folder, counted and deleted, also where a file hides it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

_PROXY_PATH = "/api/2.0/mlflow-artifacts/artifacts/"
_DOCTOR = "`sudo mlflow-onprem doctor` says what to do"
# A key has 1024 bytes: no more folders than that, and each may be hidden by a file.
_LEVELS = 600


class StillThere(Exception):
    """Objects that were deleted and are not gone."""


class Bucket:
    """The bucket behind the proxy, and where an artifact URI is in it."""

    def __init__(self, client: Any, name: str) -> None:
        self._client, self.name = client, name

    def key(self, uri: str) -> str | None:
        """The key prefix, ending in a slash, that a URI means; None where it is no folder of this bucket."""
        parts = urlsplit(uri)
        if parts.scheme == "mlflow-artifacts" or (parts.scheme == "s3" and parts.netloc == self.name):
            path = parts.path
        elif parts.scheme in ("http", "https") and parts.path.startswith(_PROXY_PATH):
            path = parts.path.removeprefix(_PROXY_PATH)
        else:
            return None
        key = path.strip("/")
        return f"{key}/" if key else None

    def measure(self, prefix: str) -> tuple[int, int]:
        """How many objects are below a prefix, and their bytes."""
        sizes = [each["Size"] for page in self._pages(prefix) for each in page]
        return len(sizes), sum(sizes)

    def empty(self, prefix: str) -> tuple[int, int]:
        """Delete all objects below a prefix; returns how many, and their bytes. Raises StillThere."""
        count, size = self._unhide(prefix)
        # A file hides what is below its name until it is gone: one look shows one level of that.
        for _ in range(_LEVELS):
            found = self._delete_listed(prefix)
            if not found[0]:
                return count, size
            count, size = count + found[0], size + found[1]
        raise StillThere(f"objects below {prefix} are still there: somebody writes to it, or may not delete it")

    def _delete_listed(self, prefix: str) -> tuple[int, int]:
        count = size = 0
        for page in self._pages(prefix):
            if page:
                keys = [{"Key": each["Key"]} for each in page]
                answer = self._client.delete_objects(Bucket=self.name, Delete={"Objects": keys, "Quiet": True})
                if answer.get("Errors"):
                    first = answer["Errors"][0]
                    raise StillThere(f"the store did not delete {first.get('Key')}: {first.get('Message') or first.get('Code')}")
                count, size = count + len(page), size + sum(each["Size"] for each in page)
        return count, size

    def _unhide(self, prefix: str) -> tuple[int, int]:
        """An object of the folder's own name hides all of it: it goes first. One in the place of a folder above is not ours to delete."""
        own, *above = map(self._size, _names_of(prefix))
        hider = next((name for name, size in zip(_names_of(prefix)[1:], above, strict=True) if size is not None), None)
        if hider is not None:
            raise StillThere(f'the bucket has a file named "{hider}", which hides everything in the folder of that name: {_DOCTOR}')
        if own is None:
            return 0, 0
        self._client.delete_objects(Bucket=self.name, Delete={"Objects": [{"Key": prefix.rstrip("/")}], "Quiet": True})
        return 1, own

    def _size(self, key: str) -> int | None:
        try:
            return int(self._client.head_object(Bucket=self.name, Key=key)["ContentLength"])
        except Exception as answer:  # boto3 makes its classes as it runs
            if getattr(answer, "response", {}).get("Error", {}).get("Code") in ("404", "NoSuchKey", "NotFound"):
                return None
            raise

    def _pages(self, prefix: str) -> Iterator[list[dict[str, Any]]]:
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
            yield page.get("Contents", [])


def _names_of(prefix: str) -> list[str]:
    """A folder and the folders it is in, as objects would be named."""
    parts = prefix.rstrip("/").split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
