"""`gc` as text and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from mlflow_onprem.core.render import size
from mlflow_onprem.gc.command import Collected, Item

SHOWN = 10


def collected_json(found: Collected) -> dict[str, Any]:
    """What left, for scripts."""
    return dataclasses.asdict(found)


def collected_text(found: Collected) -> str:
    """What left, what stayed and why."""
    counts = ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in found.removed.items())
    age = f"deleted more than {found.older_than} ago"
    if not counts:
        lines = [f"Nothing to remove: no run, model or experiment was {age}."]
    elif found.dry_run:
        lines = [f"Would remove {counts} {age}, and free {size(found.bytes)} in {found.objects} objects. Nothing was changed."]
    else:
        lines = [f"Removed {counts} {age}: {size(found.bytes)} in {found.objects} objects freed, in {found.seconds:.1f} s."]
    return "\n".join([*lines, *_rows("kept", found.kept), *_rows("FAILED", found.failed)])


def _rows(word: str, items: tuple[Item, ...]) -> list[str]:
    rows = [f"{word}: {each.kind} {each.id}: {each.why}" for each in items[:SHOWN]]
    return [*rows, f"{word}: {len(items) - SHOWN} more; --json lists all"] if len(items) > SHOWN else rows
