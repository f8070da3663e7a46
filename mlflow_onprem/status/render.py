"""The three ports as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from mlflow_onprem.stack.health import Verdict


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """One service as `status --json` shows it; `fix` is there only where something leads on."""
    return {name: value for name, value in dataclasses.asdict(verdict).items() if name != "fix" or value}


def status_text(verdicts: Sequence[Verdict], beside: Sequence[str] = ()) -> str:
    """The three ports, a line each; `beside`: what else is to be said, such as the age of secrets and backups."""
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
    more = [each for each in beside if each]
    return "\n".join(["\n".join(rows).rstrip(), *(["", *more] if more else [])])
