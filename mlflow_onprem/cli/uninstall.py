"""The verb `uninstall`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mlflow_onprem.cli.run import ConfigOption, JsonOption, VerboseOption, emit, exclusive, interruptible
from mlflow_onprem.cli.streams import read_line
from mlflow_onprem.core.errors import ConfigError, ExitCode, Refused


def uninstall(
    purge_data: Annotated[bool, typer.Option("--purge-data", help="Take runs, models, artifacts and passwords too: for good.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Take back everything that install did. Bucket, database and passwords stay, so that install brings all of it back."""
    from mlflow_onprem.cli import progress
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.stack.assembly import assemble
    from mlflow_onprem.system.local_host import LocalHost
    from mlflow_onprem.uninstall import command, render

    loaded, host = load(config), LocalHost()
    with exclusive():
        assembly = assemble(host, loaded.config)
        removal = command.look(host, assembly, purge=purge_data)
        print(render.removal_text(removal), file=sys.stderr if as_json else sys.stdout, flush=True)
        if removal.goes and not yes:
            _ask(removal.hostname if purge_data else None)
        with progress.make(verbose=verbose) as shown, interruptible(host, shown) as stop:
            host.on_say, host.on_progress = shown.say, shown.transfer
            report = command.remove(host, assembly, removal, shown.event, stop)
        assembly.close()
    emit("uninstall", render.removal_json(removal, report), render.done_text(removal, report), as_json=as_json)
    return ExitCode.OK


def _ask(hostname: str | None) -> None:
    """A yes, or with a purge this host's name. Raises ConfigError without a terminal, Refused for another answer."""
    if not sys.stdin.isatty():
        raise ConfigError("this asks before it removes anything, and there is no terminal to ask at", "add --yes if you are sure")
    question = "Remove all that? [y/N] " if hostname is None else f"Type this host's name ({hostname}) to remove all that for good: "
    print(f"\n{question}", end="", file=sys.stderr, flush=True)
    answer = read_line().strip()
    if answer.lower() not in ("y", "yes") if hostname is None else answer != hostname:
        raise Refused("nothing was removed", "")
