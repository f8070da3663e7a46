"""What a bundle holds, and what to do with it on the other host."""

from __future__ import annotations

import shlex
from pathlib import Path

from mlflow_onprem.bundle.command import Bundle
from mlflow_onprem.core.render import size


def created_text(made: Bundle) -> str:
    """Size, contents, and the line to run there."""
    name = shlex.quote(Path(made.path).name)
    return (
        f"{made.path}: {size(made.size)}, {made.packages} packages and {made.wheels} wheels for {made.release} ({made.architecture}), "
        f"in {made.seconds:.0f} s.\n"
        f"On the other host: tar xf {name} bootstrap && sudo ./bootstrap --bundle {name} && sudo mlflow-onprem install"
    )
