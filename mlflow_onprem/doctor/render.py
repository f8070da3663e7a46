"""What doctor found, as text and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from mlflow_onprem.doctor.finding import BAD, OK, WARNING, Examination, Finding

SIGNS = {OK: "✓", WARNING: "!", BAD: "✗"}


def examination_json(examination: Examination) -> dict[str, Any]:
    """Every finding, in the order in which it was made."""
    return {
        "healthy": examination.healthy,
        "findings": [dataclasses.asdict(each) for each in examination.findings],
        "seconds": round(examination.seconds, 1),
    }


def finding_text(finding: Finding) -> str:
    """One line where all is well, otherwise why it matters and what mends it below."""
    lines = [f"{SIGNS[finding.level]} {finding.check:<22} {finding.what}"]
    if finding.why:
        lines += [f"    why it matters  {finding.why}", f"    what mends it   {finding.mend}"]
    return "\n".join(lines)


def summary_text(examination: Examination) -> str:
    """The last line."""
    bad = sum(each.level == BAD for each in examination.findings)
    warnings = sum(each.level == WARNING for each in examination.findings)
    verdict = "all is well" if not bad and not warnings else "it serves" if not bad else "NOT healthy"
    counted = ", ".join(
        f"{count} {word}{'s' if count != 1 and word == 'warning' else ''}" for count, word in ((bad, "bad"), (warnings, "warning")) if count
    )
    return f"\n{verdict}{': ' + counted if counted else ''} ({len(examination.findings)} findings in {examination.seconds:.1f} s)"


def examination_text(examination: Examination) -> str:
    """All findings and the last line."""
    return "\n".join([*map(finding_text, examination.findings), summary_text(examination)])
