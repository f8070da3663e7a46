"""Results as text for people and as JSON for scripts. Knows nothing else."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlflow_onprem.engine import Plan, Report
from mlflow_onprem.errors import OnPremError, ResourceFailed
from mlflow_onprem.health import Verdict
from mlflow_onprem.resource import Change

SCHEMA = 1
#: Fields whose name in JSON is not what a person would say.
LABELS = {"inputs": "runs on", "rereads": "its workers run on", "intact": "undamaged"}
SIGNS = {"create": "+", "update": "~", "delete": "-", "unknown": "?"}


def envelope(command: str, body: Mapping[str, Any]) -> str:
    """The one object a command prints with --json."""
    return json.dumps({"schema": SCHEMA, "command": command, **body})


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


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """One service as `status --json` shows it; `fix` is there only where something leads on."""
    return {name: value for name, value in dataclasses.asdict(verdict).items() if name != "fix" or value}


def status_text(verdicts: Sequence[Verdict]) -> str:
    """The three ports, a line each."""
    rows = []
    for each in verdicts:
        unit = each.unit or "(external)"
        rows.append(f"{'✓' if each.healthy else '✗'} {each.name:<9} {each.port:>5}  {unit:<27} {each.latency_ms:>6.0f} ms  {each.detail}")
    sick = [each.name for each in verdicts if not each.healthy]
    fixes = list(dict.fromkeys(each.fix for each in verdicts if each.fix))
    on = (
        " ".join(f"What leads on: {each}." for each in fixes) or f"See why: mlflow-onprem logs {sick[0]}; put it right: sudo mlflow-onprem install"
        if sick
        else ""
    )
    rows.append(f"\nnot healthy: {', '.join(sick)}. {on}" if sick else "")
    return "\n".join(rows).rstrip()


def error_text(error: OnPremError, context: str = "") -> str:
    """A failure: what, the last lines of output, what to do next."""
    lines = [f"error: {error.message}"]
    if error.output:
        lines += ["", *(f"    {row}" for row in error.output.splitlines()), ""]
    if isinstance(error, ResourceFailed):
        lines += [f"also failed: {each}" for each in error.also]
    if error.hint:
        lines.append(f"what next: {error.hint}")
    if context:
        lines.append(context)
    return "\n".join(lines)


def error_json(error: OnPremError) -> dict[str, Any]:
    """A failure for scripts."""
    resource = {"resource": error.resource} if isinstance(error, ResourceFailed) else {}
    return {"error": {"message": error.message, "hint": error.hint, "output": error.output, **resource}}
