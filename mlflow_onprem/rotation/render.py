"""What a rotation did, and how old each secret is, as text for people and as JSON for scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlflow_onprem.settings.secret_age import Age

if TYPE_CHECKING:
    from mlflow_onprem.rotation.command import Rotated


def rotated_json(done: Rotated) -> dict[str, Any]:
    """Names, never a value."""
    return {
        "rotated": list(done.rotated),
        "refused": list(done.refused),
        "skipped": [{"group": group, "why": why} for group, why in done.skipped],
        "finished_interrupted": done.finished,
        "seconds": round(done.seconds, 1),
    }


def rotated_text(done: Rotated) -> str:
    """The same for people."""
    lines = ["finished the rotation that had been interrupted"] if done.finished else []
    for name in done.rotated:
        lines.append(f"✓ {name:<24} new{'; the old one was tried and is refused' if name in done.refused else ''}")
    lines += [f"· {group:<24} left alone: {why}" for group, why in done.skipped]
    lines += ["", f"{len(done.rotated)} rotated in {done.seconds:.1f} s" if done.rotated else "nothing is due"]
    if "mlflow-admin-password" in done.rotated:
        lines.append("What clients of the administrator's account set now: sudo mlflow-onprem client-env")
    return "\n".join(lines).lstrip()


def ages_json(ages: Sequence[Age]) -> list[dict[str, Any]]:
    """Each secret as `status --json` shows it; `due` is None without [rotation] every."""
    return [{"name": each.name, "since": each.since, "days": each.days, "due": each.due} for each in ages]


def ages_text(ages: Sequence[Age], unfinished: str | None) -> str:
    """One line for all of them, and what is to be done about it."""
    if not ages:
        return ""
    by_days: Mapping[int, list[str]] = {days: [each.name for each in ages if each.days == days] for days in sorted({each.days for each in ages})}
    parts = [f"{days} day{'' if days == 1 else 's'}: {', '.join(names)}" for days, names in by_days.items()]
    lines = [f"secrets in use for {'; '.join(parts)}"]
    due = [each.name for each in ages if each.due]
    if due:
        lines.append(f"due for new ones: {', '.join(due)}. Rotate them: sudo mlflow-onprem rotate-credentials --due")
    if unfinished is not None:
        lines.append(f"a rotation begun at {unfinished} is not finished. Go on with it: sudo mlflow-onprem rotate-credentials")
    return "\n".join(lines)
