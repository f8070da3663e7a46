"""The verb `upgrade`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_onprem.cli.run import ConfigOption, JsonOption, VerboseOption, emit, exclusive, interruptible
from mlflow_onprem.core.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from mlflow_onprem.cli.progress import Progress
    from mlflow_onprem.settings.config import Config
    from mlflow_onprem.stack.assembly import Assembly
    from mlflow_onprem.system.local_host import LocalHost


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
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.stack.assembly import assemble
    from mlflow_onprem.system.local_host import LocalHost
    from mlflow_onprem.upgrade import check as upgrade_check
    from mlflow_onprem.upgrade import render

    host = LocalHost()
    assembly = assemble(host, load(config).config)
    try:
        found = upgrade_check.check(host, assembly)
    finally:
        assembly.close()
    emit("upgrade", render.check_json(found), render.check_text(found), as_json=as_json)
    return ExitCode.FAILED if not found.possible else ExitCode.CHANGES if found.changes else ExitCode.OK


def _upgrade(config: str | None, as_json: bool, verbose: bool, no_backup: bool) -> int:
    from mlflow_onprem.backup import lock
    from mlflow_onprem.cli import progress
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.stack import preflight
    from mlflow_onprem.stack.assembly import assemble
    from mlflow_onprem.system.local_host import LocalHost
    from mlflow_onprem.upgrade import check as upgrade_check
    from mlflow_onprem.upgrade import command, render

    settings, host = load(config).config, LocalHost()
    with exclusive(), lock.hold("upgrade", recovering=True), progress.make(verbose=verbose) as shown, interruptible(host, shown) as stop:
        host.on_say, host.on_progress = shown.say, shown.transfer
        assembly = assemble(host, settings)
        try:
            said = command.recover(host, assembly, shown.event)
            if said:
                shown.say(said)
            found = upgrade_check.check(host, assembly)
            upgrade_check.must_be_possible(found)
            if not found.changes:
                emit("upgrade", render.check_json(found), said or render.check_text(found), as_json=as_json)
                return ExitCode.OK
            preflight.check(host, assembly, assembly.migrating)
            make = None if no_backup else lambda: _backup(host, assembly, shown)
            done = command.upgrade(host, assembly, shown.event, make, stop)
        finally:
            assembly.close()
    emit("upgrade", render.upgraded_json(done), render.upgraded_text(done), as_json=as_json)
    return ExitCode.OK


def recover(host: LocalHost, settings: Config, shown: Progress) -> None:
    """For install: finish or undo an upgrade that was cut off."""
    from mlflow_onprem.upgrade import state

    if state.read(host) is None:
        return
    from mlflow_onprem.backup import lock
    from mlflow_onprem.stack.assembly import assemble
    from mlflow_onprem.upgrade import command

    with lock.hold("install", recovering=True):
        assembly = assemble(host, settings)
        try:
            shown.say(command.recover(host, assembly, shown.event) or "")
        finally:
            assembly.close()


def _backup(host: LocalHost, assembly: Assembly, shown: Progress) -> str:
    """A backup where the configuration wants them; its ID."""
    from mlflow_onprem.backup import catalog, context, create
    from mlflow_onprem.cli.backup import _keys, _repository

    settings = assembly.config
    repository = _repository(host, settings, settings.backup.to, None)
    work = context.enter(host, settings, repository, _keys(host, settings, None, None, None), assembly)
    made = create.create(work, shown.event)
    catalog.remember(host, repository)
    return made.manifest.id


def _rehearse(config: str | None, as_json: bool, verbose: bool) -> int:
    from mlflow_onprem.backup import boot, catalog, lock, manifest
    from mlflow_onprem.cli import progress
    from mlflow_onprem.cli.backup import _keys, _repository
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.stack.assembly import assemble
    from mlflow_onprem.system.local_host import LocalHost
    from mlflow_onprem.upgrade import rehearse as upgrade_rehearse
    from mlflow_onprem.upgrade import render

    settings, host = load(config).config, LocalHost()
    with lock.hold("upgrade --rehearse"), progress.make(verbose=verbose) as shown:
        host.on_say, host.on_progress = shown.say, shown.transfer
        repository, keys = _repository(host, settings, settings.backup.to, None), _keys(host, settings, None, None, None)
        newest = manifest.read(repository, catalog.newest(repository))
        named = {"--credentials-file": settings.backup.credentials_file, "--passphrase-file": settings.backup.passphrase_file}
        source = boot.Source(settings.backup.to, {option: path for option, path in named.items() if path})
        assembly = assemble(host, settings)
        try:
            found = upgrade_rehearse.rehearse(host, assembly, repository, newest, keys, source)
        finally:
            assembly.close()
    emit("upgrade", render.rehearsal_json(found), render.rehearsal_text(found), as_json=as_json)
    return ExitCode.OK if found.go else ExitCode.FAILED
