"""One thing that was looked at: what was found, why it matters, what mends it."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, BAD = "ok", "warning", "bad"


@dataclass(frozen=True)
class Finding:
    """`level` is ok, warning (works, and should not stay so) or bad. `why` and `mend` are empty where all is well."""

    check: str
    level: str
    what: str
    why: str = ""
    mend: str = ""


@dataclass(frozen=True)
class Examination:
    """Everything `doctor` found; `healthy` where nothing is bad."""

    findings: tuple[Finding, ...]
    seconds: float

    @property
    def healthy(self) -> bool:
        return all(each.level != BAD for each in self.findings)


def ok(check: str, what: str) -> Finding:
    """All is well here."""
    return Finding(check, OK, what)


def warning(check: str, what: str, why: str, mend: str) -> Finding:
    """It works, and should not stay so."""
    return Finding(check, WARNING, what, why, mend)


def bad(check: str, what: str, why: str, mend: str) -> Finding:
    """It does not work, or a door is open."""
    return Finding(check, BAD, what, why, mend)
