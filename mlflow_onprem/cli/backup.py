"""backup create, list, verify, prune; restore."""

from __future__ import annotations

from typing import Annotated

import typer

from mlflow_onprem.cli.options import (
    ConfigOption,
    CredentialsOption,
    FromOption,
    IdentityOption,
    JsonOption,
    PassphraseOption,
    RepositoryOption,
    VerboseOption,
)
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.session import session
from mlflow_onprem.core.errors import ExitCode


def create(
    to: RepositoryOption = None,
    credentials_file: CredentialsOption = None,
    passphrase_file: PassphraseOption = None,
    recipient: Annotated[str | None, typer.Option(metavar="age1...", help="Encrypt to this age public key.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Make a backup of everything, while the stack serves."""
    from mlflow_onprem.backup import catalog, context, render
    from mlflow_onprem.backup import create as backup_create
    from mlflow_onprem.backup.choice import Choice

    choice = Choice(to, credentials_file, passphrase_file, recipient=recipient)
    with session(config, data="backup create") as run, run.watched(verbose=verbose) as shown:
        repository = choice.repository(run.host, run.config)
        keys = choice.keys_to_encrypt(run.host, run.config)
        context.must_be_installed(run.host)
        work = context.enter(run.host, run.config, repository, keys, run.assemble())
        made = backup_create.create(work, shown.event)
        catalog.remember(run.host, repository)
    emit("backup create", render.created_json(made), render.created_text(made), as_json=as_json)
    return ExitCode.OK


def list_(to: RepositoryOption = None, credentials_file: CredentialsOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """List backups: how old, how large, proven or not."""
    from mlflow_onprem.backup import catalog, lock, manifest, render
    from mlflow_onprem.backup.choice import Choice

    lock.require_root()
    with session(config) as run:
        found = catalog.listed(Choice(to, credentials_file).repository(run.host, run.config))
    emit("backup list", render.listed_json(found), render.listed_text(found, manifest.now()), as_json=as_json)
    return ExitCode.OK


def verify(
    backup: Annotated[str | None, typer.Argument(metavar="[ID]", help="Which backup. [default: the newest]", show_default=False)] = None,
    boot: Annotated[bool, typer.Option("--boot", help="Restore it into a disposable host and compare: only that proves it.")] = False,
    to: RepositoryOption = None,
    credentials_file: CredentialsOption = None,
    passphrase_file: PassphraseOption = None,
    identity_file: IdentityOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Read every checksum again; with --boot, restore it into a disposable host and compare."""
    from mlflow_onprem.backup import catalog, context, render
    from mlflow_onprem.backup import verify as backup_verify
    from mlflow_onprem.backup.choice import Choice

    choice = Choice(to, credentials_file, passphrase_file, identity_file)
    with session(config, data="backup verify") as run, run.watched(verbose=verbose):
        host, settings = run.host, run.config
        repository, keys = choice.repository(host, settings), choice.keys(host, settings)
        chosen = backup or catalog.newest(repository)
        found = backup_verify.verify(host, repository, chosen, lambda each: context.own_bucket(host, settings, each))
        if boot:
            from mlflow_onprem.backup import boot as backup_boot

            source = choice.source(settings)
            found = backup_verify.prove(host, repository, found, lambda each: backup_boot.boot(host, repository, each, keys, source, settings))
        catalog.remember(host, repository)
    emit("backup verify", render.verified_json(found), render.verified_text(found), as_json=as_json)
    return ExitCode.FAILED if found.damaged or found.lacking else ExitCode.OK


def prune(to: RepositoryOption = None, credentials_file: CredentialsOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Remove what the rules of [backup] do not keep, and the objects nothing kept needs."""
    from mlflow_onprem.backup import catalog, render
    from mlflow_onprem.backup.choice import Choice

    with session(config, data="backup prune") as run, run.watched() as shown:
        repository = Choice(to, credentials_file).repository(run.host, run.config)
        done = catalog.prune(run.host, repository, run.config.backup, shown.say)
        catalog.remember(run.host, repository)
    emit("backup prune", render.pruned_json(done), render.pruned_text(done), as_json=as_json)
    return ExitCode.OK


def restore(
    backup: Annotated[str, typer.Argument(metavar="ID", help="Which backup; `backup list` shows them.")],
    source: FromOption = None,
    into_empty: Annotated[bool, typer.Option("--into-empty", help="Refuse unless this host has no runs and no objects.")] = False,
    skip_backup: Annotated[bool, typer.Option("--skip-backup", help="Do not back up what is here first (where that is what is broken).")] = False,
    credentials_file: CredentialsOption = None,
    passphrase_file: PassphraseOption = None,
    identity_file: IdentityOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Put a backup back, onto this host or a bare one; what is here is backed up first, and comes back if the result is not healthy."""
    from mlflow_onprem.backup.choice import Choice
    from mlflow_onprem.restore import command
    from mlflow_onprem.restore.render import restored_json, restored_text

    choice = Choice(source, credentials_file, passphrase_file, identity_file)
    with session(config, alone=True, data="restore", wait=30) as run, run.watched(verbose=verbose) as shown:
        repository, keys = choice.repository(run.host, run.config), choice.keys(run.host, run.config)
        done = command.restore(
            run.host, run.config, repository, keys, backup, reload=run.reload, into_empty=into_empty, with_rescue=not skip_backup, watch=shown.event
        )
    emit("restore", restored_json(done), restored_text(done), as_json=as_json)
    return ExitCode.OK
