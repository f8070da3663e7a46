"""The verb `gc`."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_onprem.cli.run import ConfigOption, JsonOption, VerboseOption, emit
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
    from mlflow_onprem.backup import lock
    from mlflow_onprem.cli import progress
    from mlflow_onprem.gc import command, render
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    host, settings = LocalHost(), load(config).config
    age, patience = older_than or settings.gc.older_than, command.seconds_of(wait)
    with lock.hold("gc", wait=patience), progress.make(verbose=verbose) as shown:
        found = command.collect(host, age, dry_run=dry_run, watch=shown.say if verbose else lambda _: None)
    emit("gc", render.collected_json(found), render.collected_text(found), as_json=as_json)
    return ExitCode.FAILED if found.failed else ExitCode.OK
