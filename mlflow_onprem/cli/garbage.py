"""The verb `gc`."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_onprem.cli.options import ConfigOption, JsonOption, VerboseOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.session import session
from mlflow_onprem.core.errors import ExitCode


def gc(
    older_than: Annotated[
        str | None, typer.Option(metavar="30d", help="Only what was deleted at least that long ago. [default: as configured]", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and how much it would free. Changes nothing.")] = False,
    wait: Annotated[str, typer.Option(metavar="6h", help="How long to wait for a backup in progress.")] = "0s",
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Remove for good what users deleted: runs, models, experiments, their rows and their artifacts."""
    from mlflow_onprem.gc import command, render

    with session(config, data="gc", wait=command.seconds_of(wait)) as run, run.watched(verbose=verbose) as shown:
        age = older_than or run.config.gc.older_than
        found = command.collect(run.host, age, dry_run=dry_run, watch=shown.say if verbose else lambda _: None)
    emit("gc", render.collected_json(found), render.collected_text(found), as_json=as_json)
    return ExitCode.FAILED if found.failed else ExitCode.OK
