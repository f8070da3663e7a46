"""Names that a store keeps as they are, and names that it would change, refuse or lose.

S3 takes almost any name. A store on a disk makes folders of it, and MLflow's server decodes and normalises it on its way: what would
come back under another name, or not at all, is refused before a byte is stored.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlparse, urlunparse

#: What S3 allows for a whole name, and a file system for each of its parts, in bytes of UTF-8.
MAX_KEY = 1024
MAX_PART = 255
#: How MinIO marks folders on its disk: such a name comes back without it, or not at all.
_FOLDER_MARK = "__XLDIR__"
# MLflow's server replaces a control character by its code before anybody sees it; the code itself it would have decoded.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]|%(?:[01][0-9A-Fa-f]|7[Ff])")
_ROOT = re.compile(r"^.*?/artifacts/")
_SHOWN = 120


def unfit(key: str) -> str | None:
    """Why an object of this name would not come back as it is, in words that follow the name; None where it would."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "has a character that is none"
    if size > MAX_KEY:
        return f"has {size} bytes with its folders, and an object store takes {MAX_KEY}"
    if _CONTROL.search(key):
        return "has a control character (a line break, a tab, ...)"
    return next((why for part in key.split("/") if (why := _unfit_part(part))), None)


def _unfit_part(part: str) -> str | None:
    if not part:
        return "has a slash at its start or end, or two in a row"
    if part in (".", ".."):
        return f"has a part that is '{part}'"
    if (length := len(part.encode())) > MAX_PART:
        return f"has a part of {length} bytes, and a file system takes {MAX_PART}"
    if part.endswith(_FOLDER_MARK):
        return f"has a part that ends in {_FOLDER_MARK}, which the object store keeps for itself"
    return _unread(part)


def _unread(part: str) -> str | None:
    """MLflow's server and its clients read each name as if it were an address: of what an upload sends, and of what a listing answers."""
    if "#" in part:
        return "has a #, which MLflow takes for the end of a name"
    parsed = urlparse(unquote(part))
    if parsed.scheme == "file":
        return f"has the part '{part}', which MLflow takes for a file of its own"
    read = urlunparse(parsed)
    return None if read == part else f"has the part '{part}', which MLflow's clients read as '{read}'"


def ancestors(key: str) -> list[str]:
    """The folders that a name is in, the innermost first: an object of one of these names would hide it."""
    parts = key.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def shown(key: str) -> str:
    """The name as its user knows it: without the folder of its run, and not longer than a line."""
    name = _ROOT.sub("", key, count=1)
    text = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    return text.encode("utf-8", "backslashreplace").decode()


def beside_folder(key: str, inside: str) -> str:
    """The message where a file would get the name of a folder."""
    name = shown(key)
    return (
        f"the file '{name}' cannot be stored: there is a folder of that name ('{shown(inside)}' is in it), and in this object store a file "
        f"hides a folder of its name from every listing, download of the whole run and backup. Nothing was stored or changed. "
        f"Give the file another name (for example '{name}.file'), or delete the folder first"
    )


def below_file(key: str, file: str) -> str:
    """The message where a file would get a folder that is a file."""
    name = shown(file)
    return (
        f"the file '{shown(key)}' cannot be stored: '{name}' is a file, not a folder, and in this object store a file hides everything "
        f"below its name from every listing, download of the whole run and backup. Nothing was stored or changed. "
        f"Use another folder (for example '{name}.d'), or delete '{name}' first"
    )


def unfit_message(key: str, why: str) -> str:
    """The message where a name is not one that comes back."""
    return (
        f"a file named '{shown(key)}' cannot be stored: the name {why}, so it would not come back under it. Nothing was stored. Give it another name"
    )
