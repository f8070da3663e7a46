"""What uninstall is about to remove, and what it removed."""

from __future__ import annotations

import dataclasses
from typing import Any

from mlflow_onprem.core.engine import Report
from mlflow_onprem.core.render import size
from mlflow_onprem.uninstall.command import Removal, Stock


def removal_text(removal: Removal) -> str:
    """What goes and what stays, before anything is touched."""
    lines = ["These go:", *(f"  - {each}" for each in removal.goes)] if removal.goes else ["Nothing of the stack is on this host."]
    if removal.lost is not None:
        lines += ["", f"LOST FOR GOOD: {_stock(removal.lost)}"]
    return "\n".join([*lines, "", "These stay:", *(f"  {each}" for each in removal.stays)])


#: What is said where nobody can be asked, and what to do then.
NO_TERMINAL = ("this asks before it removes anything, and there is no terminal to ask at", "add --yes if you are sure")


def question(removal: Removal, *, purge: bool) -> str:
    """For a yes, or with a purge for this host's name."""
    return f"\nType this host's name ({removal.hostname}) to remove all that for good: " if purge else "\nRemove all that? [y/N] "


def done_text(removal: Removal, report: Report) -> str:
    """The last words."""
    again = "" if removal.lost is not None else "\n`sudo mlflow-onprem install` brings all of it back, with every run and artifact."
    return f"{len(report.changed)} removed in {report.seconds:.1f} s.{again}"


def removal_json(removal: Removal, report: Report) -> dict[str, Any]:
    """What was removed, what stayed, and with a purge what it held."""
    return {
        "removed": [each.resource for each in report.changed],
        "stays": list(removal.stays),
        "lost": None if removal.lost is None else dataclasses.asdict(removal.lost),
        "seconds": round(report.seconds, 1),
    }


def _stock(stock: Stock) -> str:
    artifacts = "artifacts that could not be counted" if stock.size is None else f"{size(stock.size)} of artifacts"
    return f"{_number(stock.runs, 'run')}, {_number(stock.models, 'registered model')}, {artifacts}, and the passwords"


def _number(count: int | None, word: str) -> str:
    return f"{word}s that could not be counted" if count is None else f"{count} {word}{'' if count == 1 else 's'}"
