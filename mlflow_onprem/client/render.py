"""What `client-env --check` found, as text."""

from __future__ import annotations

from mlflow_onprem.client.check import Checked
from mlflow_onprem.core.render import finding_text


def checked_text(done: Checked) -> str:
    """Every step, and whether a client gets through."""
    last = f"a client reaches {done.uri}" if done.healthy else f"a client does not get through to {done.uri or 'a server'}"
    return "\n".join([*map(finding_text, done.findings), "", last])
