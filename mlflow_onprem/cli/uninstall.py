"""The verb `uninstall`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mlflow_onprem.cli.options import ConfigOption, JsonOption, VerboseOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.prompt import ask
from mlflow_onprem.cli.session import session
from mlflow_onprem.core.errors import Declined, ExitCode


def uninstall(
    purge_data: Annotated[bool, typer.Option("--purge-data", help="Take runs, models, artifacts and passwords too: for good.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Remove everything that install did. Bucket, database and passwords stay, so that install brings all of it back."""
    from mlflow_onprem.uninstall import command, render

    with session(config, alone=True) as run:
        assembly = run.assemble()
        removal = command.look(run.host, assembly, purge=purge_data)
        print(render.removal_text(removal), file=sys.stderr if as_json else sys.stdout, flush=True)
        if removal.goes and not yes:
            answer = ask(render.question(removal, purge=purge_data), *render.NO_TERMINAL)
            if not command.agreed(answer, removal, purge=purge_data):
                raise Declined("nothing was removed")
        with run.watched(verbose=verbose, gently=True) as shown:
            report = command.remove(run.host, assembly, removal, shown.event, run.stop)
    emit("uninstall", render.removal_json(removal, report), render.done_text(removal, report), as_json=as_json)
    return ExitCode.OK
