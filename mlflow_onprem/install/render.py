"""Results as text for people and as JSON for scripts. Knows nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mlflow_onprem.core.engine import Plan, Report
from mlflow_onprem.core.resource import Change
from mlflow_onprem.stack.health import Verdict
from mlflow_onprem.status.render import verdict_json

#: Fields whose name in JSON is not what a person would say.
LABELS = {"inputs": "runs on", "rereads": "its workers run on", "intact": "undamaged"}
SIGNS = {"create": "+", "update": "~", "delete": "-", "unknown": "?"}


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan as CONTRACT fixes it; `hidden` names what only root may see."""
    changes = [
        {"resource": each.resource, "action": each.action, "fields": {name: {"have": f.have, "want": f.want} for name, f in each.fields.items()}}
        | ({"why": each.why} if each.why else {})
        for each in plan.changes
    ]
    return {"changes": changes, "unchanged": plan.unchanged, "hidden": [each.resource for each in plan.hidden]}


def plan_text(plan: Plan) -> str:
    """What would change, field by field."""
    lines: list[str] = []
    for change in plan.changes:
        lines += _change_lines(change)
    total = len(plan.changes)
    if total:
        lines += ["", f"{total} to change, {plan.unchanged} as wanted. Nothing was changed; `sudo mlflow-onprem install` does it."]
    else:
        lines.append(f"Nothing to change: {plan.unchanged} resources are as wanted.")
    if plan.hidden:
        lines.append(f"{len(plan.hidden)} more can only be seen by root: sudo mlflow-onprem plan")
    return "\n".join(lines)


def _change_lines(change: Change) -> Iterable[str]:
    if change.action == "unknown":
        return [f"? {change.resource}: known after install ({change.why})"]
    lines = [f"{SIGNS[change.action]} {change.resource}"]
    for field, each in change.fields.items():
        name = LABELS.get(field, field).replace("_", " ")
        if each.diff:
            lines += [f"    {name}:", *(f"      {row}" for row in each.diff)]
        elif change.action == "create":
            lines.append(f"    {name}: {each.want}")
        else:
            lines.append(f"    {name}: {each.have} -> {each.want}")
    return lines


def report_json(report: Report, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What install did."""
    return {
        "changed": [each.resource for each in report.changed],
        "unchanged": report.unchanged,
        "seconds": round(report.seconds, 1),
        "services": [verdict_json(each) for each in verdicts],
    }
