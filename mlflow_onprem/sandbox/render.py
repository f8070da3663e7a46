"""The verbs of `sandbox` as text and as JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

from mlflow_onprem.sandbox.command import Down, Status, Up


def up_json(made: Up) -> dict[str, Any]:
    """Everything, with the password of its administrator."""
    return dataclasses.asdict(made) | {"account": dataclasses.asdict(made.account) | {"password": made.account.password.reveal()}}


def up_text(made: Up) -> str:
    """Where it serves, and what to do with it."""
    return (
        f"sandbox {made.name} serves at {made.url} ({made.seconds:.0f} s)\n"
        f"account: {made.account.username} / {made.account.password.reveal()}\n"
        f"look around: sudo mlflow-onprem sandbox shell --name {made.name}; throw it away: sudo mlflow-onprem sandbox down --name {made.name}"
    )


def status_text(found: Status) -> str:
    """A line each."""
    rows = [f"{each.name:<12} {'running' if each.running else 'stopped':<8} {each.url:<26} {each.release}" for each in found.sandboxes]
    return "\n".join(rows or ["no sandboxes; make one: sudo mlflow-onprem sandbox up"])


def down_text(gone: Down, name: str) -> str:
    """What was removed, and what of this machine stays as it is."""
    text = f"removed: {', '.join(gone.removed)}" if gone.removed else f"there is no sandbox {name}: nothing to remove"
    return f"{text}\nIP forwarding of this machine stays on, others need it by now: {gone.forwarding}" if gone.forwarding else text
