"""What doctor found, as text and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from mlflow_onprem.core.render import finding_text
from mlflow_onprem.doctor.examination import Examination


def examination_json(examination: Examination) -> dict[str, Any]:
    """Every finding, in the order in which it was made."""
    return {
        "healthy": examination.healthy,
        "findings": [dataclasses.asdict(each) for each in examination.findings],
        "seconds": round(examination.seconds, 1),
    }


def summary_text(examination: Examination) -> str:
    """The last line."""
    errors = sum(each.level == "error" for each in examination.findings)
    warnings = sum(each.level == "warning" for each in examination.findings)
    verdict = "all is well" if not errors and not warnings else "healthy" if not errors else "NOT healthy"
    counted = ", ".join(f"{count} {word}{'s' if count != 1 else ''}" for count, word in ((errors, "error"), (warnings, "warning")) if count)
    return f"\n{verdict}{': ' + counted if counted else ''} ({len(examination.findings)} findings in {examination.seconds:.1f} s)"


def examination_text(examination: Examination) -> str:
    """All findings and the last line."""
    return "\n".join([*map(finding_text, examination.findings), summary_text(examination)])
