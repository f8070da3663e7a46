"""What install makes of a stack that was built by hand, said before (plan) and after (install)."""

from __future__ import annotations

from mlflow_onprem.stack.adoption import Adoption


def before_text(adoption: Adoption) -> str:
    """Above a plan."""
    lines = [
        "A stack that was built by hand is on this host. Install takes it over with every run, model and artifact;",
        f"before anything is touched, a dump and a copy of what is replaced go to {adoption.folder}. After it:",
    ]
    return "\n".join([*lines, *(f"  ! {each}" for each in adoption.warnings), "", ""])


def after_text(adoption: Adoption, warnings: tuple[str, ...]) -> list[str]:
    """Below what install says."""
    head = f"The stack that was built by hand is taken over; what it was is kept in {adoption.folder}. Note:"
    return [
        "",
        head,
        *(f"  ! {each}" for each in warnings),
        "  ! MLflow's old environment and program files were left where they are; remove them when you like.",
    ]
