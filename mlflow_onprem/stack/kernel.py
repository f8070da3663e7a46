"""What the kernel of this host cannot do is left out of our units: one line each, in a drop-in of its own."""

from __future__ import annotations

from mlflow_onprem.core.resource import Mode, Text
from mlflow_onprem.resources.files import File, FileState
from mlflow_onprem.settings.facts import KERNEL_DROP_INS, Facts

WITHOUT = (
    "# Written by mlflow-onprem: this host makes no user namespaces (user.max_user_namespaces is 0, or its container forbids them).\n"
    "# All other sandboxing of the unit stays; where user namespaces come back, the next install removes this file.\n"
    "[Service]\nPrivateUsers=no\n"
)
LESS = "this host makes no user namespaces: the services run without PrivateUsers, and with all other sandboxing"
ON = "sudo sysctl user.max_user_namespaces=15000 (in a container: let it nest), then sudo mlflow-onprem install"


def drop_in(unit: str, facts: Facts) -> File:
    """The file for a unit (minio.service); wanted absent where the kernel can do all that the unit asks for."""
    path = next(each for each in KERNEL_DROP_INS if f"/{unit}.d/" in each)
    return File(path, None if facts.private_users else FileState(Text(WITHOUT), Mode(0o644), "root", "root"))


def remarks(facts: Facts) -> tuple[str, ...]:
    """What runs with less sandboxing here than elsewhere, for a person."""
    return () if facts.private_users else (f"{LESS}. To have it too: {ON}",)
