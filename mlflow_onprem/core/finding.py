"""One thing that was looked at: what was found, why it matters, how to fix it. The same in `doctor` and `client-env --check`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """`level` is ok, warning (works, but should not stay so) or error. `why` and `fix` are empty where all is well."""

    check: str
    level: Level
    what: str
    why: str = ""
    fix: str = ""


def ok(check: str, what: str) -> Finding:
    """All is well here."""
    return Finding(check, "ok", what)


def warning(check: str, what: str, why: str = "", fix: str = "") -> Finding:
    """It works, but should not stay so."""
    return Finding(check, "warning", what, why, fix)


def error(check: str, what: str, why: str = "", fix: str = "") -> Finding:
    """It does not work, or others can reach what they must not."""
    return Finding(check, "error", what, why, fix)
