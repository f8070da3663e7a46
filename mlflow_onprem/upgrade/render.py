"""`upgrade` as text and as JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from mlflow_onprem.core.render import size
from mlflow_onprem.upgrade.check import Check
from mlflow_onprem.upgrade.command import Upgraded
from mlflow_onprem.upgrade.postgres_guide import Guide

if TYPE_CHECKING:
    from mlflow_onprem.upgrade.rehearse import Rehearsal

SHOWN = 12


def check_json(found: Check) -> dict[str, Any]:
    """What would happen, for scripts."""
    body = dataclasses.asdict(found)
    return body | {"possible": found.possible, "refusals": [{"message": message, "hint": hint} for message, hint in found.refusals]}


def check_text(found: Check) -> str:
    """What would happen."""
    if not found.changes and found.possible:
        lines = [f"Nothing to upgrade: MLflow {found.version} and everything else are as the configuration wants them."]
        return "\n".join([*lines, *_guide(found.postgres)])
    lines = [f"MLflow {found.version} -> {found.wanted}" if found.version != found.wanted else f"MLflow {found.version} stays"]
    count = "as many as the new environment knows" if found.migrations is None else str(found.migrations)
    lines.append(f"migrations ahead: {count} (tables are at {found.revision or 'no revision yet'})")
    lines += [f"would change: {name}" for name in found.changes[:SHOWN]]
    if len(found.changes) > SHOWN:
        lines.append(f"... and {len(found.changes) - SHOWN} more: mlflow-onprem plan")
    lines += [f"breaking changes: {text}" for text in found.breaks]
    lines.append(f"needs {size(found.needed)} ({size(found.free)} free); databases: {size(found.database_bytes)}")
    lines.append(f"MLflow away for about {found.downtime:.0f} s; --rehearse measures it")
    lines.append(found.backup)
    for message, hint in found.refusals:
        lines += ["", f"CANNOT: {message}", f"what next: {hint}"]
    if found.possible:
        lines += ["", "go: sudo mlflow-onprem upgrade --rehearse, then sudo mlflow-onprem upgrade"]
    return "\n".join([*lines, *_guide(found.postgres)])


def _guide(found: Guide | None) -> list[str]:
    if found is None:
        return []
    lines = ["", f"PostgreSQL {found.have} runs here, this release of the system brings {found.distribution}. To go there:"]
    lines += [f"  {command:<48} # {why}" for command, why in found.steps]
    lines += ["back, until the last of these was done:"]
    return lines + [f"  {command:<48} # {why}" for command, why in found.back]


def upgraded_json(done: Upgraded) -> dict[str, Any]:
    """What was done, for scripts."""
    return dataclasses.asdict(done)


def upgraded_text(done: Upgraded) -> str:
    """What was done."""
    what = f"MLflow {done.version} -> {done.wanted}" if done.version != done.wanted else f"MLflow {done.version}"
    tables = "" if done.migrations is None else f", {done.migrations} migrations"
    rows = [f"  {name:<16} {seconds:>6.1f} s" for name, seconds in done.steps]
    backup = f"the backup made before: {done.backup}" if done.backup else "no backup was made before (--no-backup)"
    return "\n".join([f"Upgraded: {what}{tables}, in {done.seconds:.0f} s; MLflow was away {done.downtime:.0f} s.", *rows, backup])


def rehearsal_json(found: Rehearsal) -> dict[str, Any]:
    """How it went in the disposable host, for scripts."""
    return dataclasses.asdict(found)


def rehearsal_text(found: Rehearsal) -> str:
    """Go or no-go."""
    what = f"MLflow {found.version} -> {found.wanted}, on backup {found.backup} in a disposable host, in {found.seconds:.0f} s"
    if not found.go:
        shown = [f"    {row}" for row in found.output.splitlines()]
        return "\n".join([f"NO-GO: {what}: {found.why}", *shown, "the live host was not touched"])
    tables = "" if found.migrations is None else f", {found.migrations} migrations"
    rows = [f"  {name:<16} {seconds:>6.1f} s" for name, seconds in found.steps]
    compared = f"compared afterwards: {found.runs} runs, {found.artifacts} artifacts by bytes"
    return "\n".join([f"GO: {what}{tables}; MLflow was away {found.downtime:.0f} s.", *rows, compared, "the live host was not touched"])
