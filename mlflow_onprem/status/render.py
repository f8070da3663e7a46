"""The three ports as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from mlflow_onprem.stack.health import Verdict


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """One service as `status --json` shows it; `fix` is there only where one is known."""
    return {name: value for name, value in dataclasses.asdict(verdict).items() if name != "fix" or value}


def status_text(verdicts: Sequence[Verdict], beside: Sequence[str] = ()) -> str:
    """The three ports, a line each; `beside`: what else is to be said, such as the age of secrets and backups."""
    rows = []
    for each in verdicts:
        unit = each.unit or "(external)"
        rows.append(f"{'✓' if each.healthy else '✗'} {each.name:<9} {each.port:>5}  {unit:<27} {each.latency_ms:>6.0f} ms  {each.detail}")
    unhealthy = [each.name for each in verdicts if not each.healthy]
    fixes = list(dict.fromkeys(each.fix for each in verdicts if each.fix))
    on = (
        " ".join(f"Next: {each}." for each in fixes) or f"See why: mlflow-onprem logs {unhealthy[0]}; put it right: sudo mlflow-onprem install"
        if unhealthy
        else ""
    )
    rows.append(f"\nnot healthy: {', '.join(unhealthy)}. {on}" if unhealthy else "")
    more = [each for each in beside if each]
    return "\n".join(["\n".join(rows).rstrip(), *(["", *more] if more else [])])
