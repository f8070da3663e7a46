"""What `restore` did, as text and as JSON."""

from __future__ import annotations

from typing import Any

from mlflow_onprem.core.render import size
from mlflow_onprem.restore.command import Restored


def restored_json(done: Restored) -> dict[str, Any]:
    """What `restore` did."""
    return {
        "id": done.id, "address": done.address, "rescue": done.rescue, "undone": done.undone, "objects": done.objects, "copied_objects": done.copied,
        "copied_bytes": done.copied_bytes, "rows": done.rows, "seconds": done.seconds, "notes": list(done.notes),
    }  # fmt: skip


def restored_text(done: Restored) -> str:
    """The same for people."""
    if done.undone:
        return f"the restore was undone: this host is as it was before, in {done.seconds:.0f} s"
    lines = [
        f"restored backup {done.id} in {done.seconds:.0f} s: {done.rows} rows as they were, {done.objects} objects "
        f"({done.copied} copied, {size(done.copied_bytes)}), services healthy",
        *done.notes,
    ]
    if done.rescue:
        lines.append(f"what was here before is backup {done.rescue}: sudo mlflow-onprem restore {done.rescue}")
    return "\n".join(lines)
