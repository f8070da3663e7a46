"""Modes that do not depend on the caller's umask.

With the 027 or 077 of a hardened image, services' accounts could not enter folders that are made for them. What is secret says so itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

#: Ours, and that of every program we start.
UMASK = 0o022


def make_parents(path: Path) -> None:
    """Make the folders that lead to a path, 0755 each; one that is there already stays as it is."""
    if not path.parent.exists():
        make_parents(path.parent)
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o755)


def private(path: Path) -> BinaryIO:
    """A file, made new or emptied, that only its owner may read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
