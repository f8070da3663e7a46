"""Results as text for people and as JSON for scripts. Knows nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_onprem.core.engine import Plan, Report
from mlflow_onprem.core.resource import Change
from mlflow_onprem.stack.health import Verdict
from mlflow_onprem.status.render import status_text, verdict_json

if TYPE_CHECKING:
    from mlflow_onprem.stack.adoption import Adoption

#: Fields whose name in JSON is not what a person would say.
LABELS = {"inputs": "runs on", "rereads": "its workers run on", "intact": "undamaged"}
SIGNS = {"create": "+", "update": "~", "delete": "-", "unknown": "?"}


@dataclass(frozen=True)
class Planned:
    """A plan and what is said beside it: of an adoption, why MLflow runs on which Python, and what would stop `install`."""

    plan: Plan
    adoption: Adoption | None
    python_why: str
    stops: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """Of the Python only where the environment is to be created."""
        environment = any(each.resource.startswith("environment:") for each in self.plan.changes)
        return [*([self.python_why] if self.python_why and environment else []), *self.stops]


def planned_json(planned: Planned) -> dict[str, Any]:
    """The plan with its notes, and the warnings of an adoption."""
    warnings = {} if planned.adoption is None else {"warnings": list(planned.adoption.warnings)}
    return plan_json(planned.plan) | {"notes": planned.notes} | warnings


def planned_text(planned: Planned) -> str:
    """The same for people."""
    from mlflow_onprem.install.render_adoption import before_text

    before = "" if planned.adoption is None else before_text(planned.adoption)
    return before + "".join(f"{note}\n\n" for note in planned.notes) + plan_text(planned.plan)


def installed_text(report: Report, verdicts: Sequence[Verdict], then: Sequence[str], less: Sequence[str]) -> str:
    """The three ports, how much was changed, what comes next, and what this host lacks (`less`)."""
    changed = f"{len(report.changed)} changed, {report.unchanged} unchanged, in {report.seconds:.1f} s"
    return "\n".join([status_text(verdicts), "", changed, *then, *(f"warning: {each}" for each in less)])


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan in its public form, which tests/test_cli.py fixes; `hidden` names what only root may see."""
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
        lines += ["", f"{total} to change, {plan.unchanged} unchanged. No change was made; `sudo mlflow-onprem install` makes them."]
    else:
        lines.append(f"No changes: {plan.unchanged} resources match the configuration.")
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
