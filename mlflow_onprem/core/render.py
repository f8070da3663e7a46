"""What every verb prints alike: the one JSON object, and a failure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlflow_onprem.core.errors import Declined, HalfDone, OnPremError, ResourceFailed, RolledBack
from mlflow_onprem.core.finding import Finding

SCHEMA = 1
SIGNS = {"ok": "✓", "warning": "!", "error": "✗"}


def envelope(command: str, body: Mapping[str, Any]) -> str:
    """The one object a command prints with --json."""
    return json.dumps({"schema": SCHEMA, "command": command, **body})


def error_text(error: OnPremError, context: str = "") -> str:
    """A failure: what, the last lines of output, what to do next."""
    if isinstance(error, Declined):
        return f"you answered no: {error.message}"
    lines = [f"error: {error.message}"]
    if error.output:
        lines += ["", *(f"    {row}" for row in error.output.splitlines()), ""]
    if failed := _resource(error):
        lines += [f"also failed: {each}" for each in failed.also]
    if error.hint:
        lines.append(f"what next: {error.hint}")
    if context:
        lines.append(context)
    return "\n".join(lines)


def error_json(error: OnPremError) -> dict[str, Any]:
    """A failure for scripts."""
    resource = {"resource": failed.resource} if (failed := _resource(error)) else {}
    return {"error": {"message": error.message, "hint": error.hint, "output": error.output, **resource}}


def finding_text(finding: Finding) -> str:
    """One line where all is well, otherwise why it matters and how to fix it below."""
    lines = [f"{SIGNS[finding.level]} {finding.check:<22} {finding.what}"]
    lines += [f"    {name:<4} {text}" for name, text in (("why", finding.why), ("fix", finding.fix)) if text]
    return "\n".join(lines)


def _resource(error: OnPremError) -> ResourceFailed | None:
    """The resource that could not be applied, where that is what it came from."""
    while isinstance(error, (RolledBack, HalfDone)):
        error = error.cause
    return error if isinstance(error, ResourceFailed) else None


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
