"""rotate-credentials."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from mlflow_onprem.cli.options import ConfigOption, JsonOption, VerboseOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.session import session
from mlflow_onprem.core.errors import ExitCode


class Group(str, Enum):
    """What can be rotated by itself."""

    minio_root = "minio-root"
    s3 = "s3"
    postgres = "postgres"
    mlflow = "mlflow"


def rotate_credentials(
    only: Annotated[Group | None, typer.Option("--only", help="This alone instead of everything.")] = None,
    due: Annotated[bool, typer.Option("--due", help="What is as old as [rotation] every says (the timer's way).")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Give every secret of the stack a new value while it serves, and prove the old ones dead."""
    from mlflow_onprem.rotation import command, render
    from mlflow_onprem.settings.credentials import GROUPS, read_dates
    from mlflow_onprem.settings.secret_age import due as due_groups
    from mlflow_onprem.settings.secret_age import ours
    from mlflow_onprem.stack import preflight

    with session(config, alone=True) as run, run.watched(verbose=verbose, gently=True) as shown:
        preflight.check_room(run.host)
        scope = (only.value,) if only is not None else tuple(GROUPS)
        if due:
            old = due_groups(read_dates(run.host), run.config.rotation.every)
            scope = tuple(group for group in scope if group in old and group in ours(run.config))
        done = command.Rotator(run.host, run.config, shown.event, run.stop).rotate(scope)
    emit("rotate-credentials", render.rotated_json(done), render.rotated_text(done), as_json=as_json)
    return ExitCode.OK
