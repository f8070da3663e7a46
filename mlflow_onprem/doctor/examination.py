"""What one run of `doctor` found."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.core.finding import Finding


@dataclass(frozen=True)
class Examination:
    """Every finding, in the order in which it was made, and how long it took; `healthy` where none is an error."""

    findings: tuple[Finding, ...]
    seconds: float

    @property
    def healthy(self) -> bool:
        return all(each.level != "error" for each in self.findings)
