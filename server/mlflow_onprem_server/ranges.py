"""Which bytes of an object a request asks for: `Range`, `If-Range` and `If-None-Match`, as HTTP has them (RFC 9110, 13 and 14).

One range is honoured. Of several, the whole object is sent, which HTTP allows and no client of MLflow asks for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*")
#: Headers that cannot be answered before the object's size, tag and date are known.
CONDITIONS = ("range", "if-none-match", "if-modified-since")


@dataclass(frozen=True)
class Portion:
    """The answer's status, and the bytes from `start` up to and without `stop`."""

    status: int
    start: int
    stop: int

    @property
    def length(self) -> int:
        """How many bytes that is."""
        return self.stop - self.start


def portion(headers: Mapping[str, str], size: int, etag: str, modified: str) -> Portion:
    """What to send of an object of `size` bytes. `headers` has lower-case names; `etag` comes with its quotes, `modified` is an HTTP date."""
    if _unchanged(headers, etag, modified):
        return Portion(304, 0, 0)
    asked = _RANGE.fullmatch(headers.get("range", ""))
    if asked is None or not any(asked.groups()) or not _still_the_same(headers.get("if-range"), etag, modified):
        return Portion(200, 0, size)
    first, last = asked.groups()
    if not first:  # the last bytes
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return Portion(200, 0, size)  # not a range: ignored
    return Portion(206, start, stop) if start < stop else Portion(416, 0, 0)


def _unchanged(headers: Mapping[str, str], etag: str, modified: str) -> bool:
    """Whether the client has this object already."""
    if (known := headers.get("if-none-match")) is not None:
        tags = [tag.strip().removeprefix("W/") for tag in known.split(",")]
        return etag in tags or "*" in tags
    since = headers.get("if-modified-since")
    return since is not None and _no_later(modified, since)


def _still_the_same(condition: str | None, etag: str, modified: str) -> bool:
    """`If-Range`: a part fits only to the object that the client has the rest of."""
    return condition is None or condition.strip() in (etag, modified)


def _no_later(one: str, other: str) -> bool:
    try:
        return parsedate_to_datetime(one) <= parsedate_to_datetime(other)
    except (TypeError, ValueError):
        return False
