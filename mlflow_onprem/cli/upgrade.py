"""The verb `upgrade`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_onprem.cli.options import ConfigOption, JsonOption, VerboseOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.session import Session, session
from mlflow_onprem.core.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from mlflow_onprem.cli.progress import Progress
    from mlflow_onprem.stack.assembly import Assembly


def upgrade(
    check: Annotated[bool, typer.Option("--check", help="Say what would change and what it needs. Changes nothing.")] = False,
    rehearse: Annotated[bool, typer.Option("--rehearse", help="Upgrade the newest backup in a disposable host, and say go or no-go.")] = False,
    no_backup: Annotated[bool, typer.Option("--no-backup", help="Without a backup before; databases are copied in any case.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Bring MLflow and the store to the versions the configuration wants, with a way back until clients are let in again."""
    if check and rehearse:
        raise ConfigError("--check and --rehearse exclude each other")
    if check:
        return _check(config, as_json)
    if rehearse:
        return _rehearse(config, as_json, verbose)
    return _upgrade(config, as_json, verbose, no_backup)


def _check(config: str | None, as_json: bool) -> int:
    from mlflow_onprem.upgrade import check as upgrade_check
    from mlflow_onprem.upgrade import render

    with session(config) as run:
        found = upgrade_check.check(run.host, run.assemble())
    emit("upgrade", render.check_json(found), render.check_text(found), as_json=as_json)
    return ExitCode.FAILED if not found.possible else ExitCode.CHANGES if found.changes else ExitCode.OK


def _upgrade(config: str | None, as_json: bool, verbose: bool, no_backup: bool) -> int:
    from mlflow_onprem.stack import preflight
    from mlflow_onprem.upgrade import check as upgrade_check
    from mlflow_onprem.upgrade import command, render

    with session(config, alone=True, data="upgrade", recovering=True) as run, run.watched(verbose=verbose, gently=True) as shown:
        host, assembly = run.host, run.assemble()
        said = command.recover(host, assembly, shown.event)
        if said:
            shown.say(said)
        found = upgrade_check.check(host, assembly)
        upgrade_check.must_be_possible(found)
        if not found.changes:
            emit("upgrade", render.check_json(found), said or render.check_text(found), as_json=as_json)
            return ExitCode.OK
        preflight.check(host, assembly, assembly.migrating)
        make = None if no_backup else lambda: _backup(run, assembly, shown)
        done = command.upgrade(host, assembly, shown.event, make, run.stop)
    emit("upgrade", render.upgraded_json(done), render.upgraded_text(done), as_json=as_json)
    return ExitCode.OK


def recover(run: Session, shown: Progress) -> None:
    """For install: finish or undo an upgrade that was interrupted."""
    from mlflow_onprem.upgrade import state

    if state.read(run.host) is None:
        return
    from mlflow_onprem.backup import lock
    from mlflow_onprem.upgrade import command

    with lock.hold("install", recovering=True):
        shown.say(command.recover(run.host, run.assemble(), shown.event) or "")


def _backup(run: Session, assembly: Assembly, shown: Progress) -> str:
    """A backup where the configuration wants them; its ID."""
    from mlflow_onprem.backup import catalog, context, create
    from mlflow_onprem.backup.choice import Choice

    choice = Choice()
    repository = choice.repository(run.host, run.config)
    work = context.enter(run.host, run.config, repository, choice.keys(run.host, run.config), assembly)
    made = create.create(work, shown.event)
    catalog.remember(run.host, repository)
    return made.manifest.id


def _rehearse(config: str | None, as_json: bool, verbose: bool) -> int:
    from mlflow_onprem.backup import catalog, manifest
    from mlflow_onprem.backup.choice import Choice
    from mlflow_onprem.upgrade import rehearse as upgrade_rehearse
    from mlflow_onprem.upgrade import render

    choice = Choice()
    with session(config, data="upgrade --rehearse") as run, run.watched(verbose=verbose):
        repository, keys = choice.repository(run.host, run.config), choice.keys(run.host, run.config)
        newest = manifest.read(repository, catalog.newest(repository))
        found = upgrade_rehearse.rehearse(run.host, run.assemble(), repository, newest, keys, choice.source(run.config))
    emit("upgrade", render.rehearsal_json(found), render.rehearsal_text(found), as_json=as_json)
    return ExitCode.OK if found.go else ExitCode.FAILED
