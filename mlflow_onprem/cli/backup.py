"""backup create, list, verify, prune; restore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlflow_onprem.cli.run import ConfigOption, JsonOption, VerboseOption, emit, exclusive
from mlflow_onprem.core.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from mlflow_onprem.backup.encryption import Keys
    from mlflow_onprem.backup.repository import Repository
    from mlflow_onprem.settings.config import Config
    from mlflow_onprem.system.local_host import LocalHost

app = typer.Typer(help="Copies of everything, proven by restoring them.", no_args_is_help=True)
ToOption = Annotated[str | None, typer.Option("--to", "--from", metavar="DIR|s3://...", help="Where backups lie. [default: as configured]")]
CredentialsOption = Annotated[str | None, typer.Option("--credentials-file", metavar="FILE", help="Keys of the other S3 store.")]
PassphraseOption = Annotated[str | None, typer.Option("--passphrase-file", metavar="FILE", help="What secrets are encrypted with.")]
IdentityOption = Annotated[str | None, typer.Option("--identity-file", metavar="FILE", help="The private half of the age recipient.")]


def register(program: typer.Typer) -> None:
    """Add the verbs to the program."""
    program.add_typer(app, name="backup")
    program.command()(restore)


@app.command()
def create(
    to: ToOption = None,
    credentials_file: CredentialsOption = None,
    passphrase_file: PassphraseOption = None,
    recipient: Annotated[str | None, typer.Option(metavar="age1...", help="Encrypt to this age public key.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Make a backup of everything, while the stack serves."""
    from mlflow_onprem.backup import catalog as backup
    from mlflow_onprem.backup import context, lock, render
    from mlflow_onprem.backup import create as backup_create
    from mlflow_onprem.cli import progress
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    settings, host = load(config).config, LocalHost()
    place = to or settings.backup.to
    with lock.hold("backup create"), progress.make(verbose=verbose) as shown:
        host.on_say, host.on_progress = shown.say, shown.transfer
        repository = _repository(host, settings, place, credentials_file)
        keys = _keys(host, settings, passphrase_file, None, recipient)
        if place.startswith("s3://") and keys.kind == "none":
            raise ConfigError(
                "a backup that leaves this host is encrypted: there is no key",
                "--passphrase-file FILE, or --recipient age1... (or their keys in [backup])",
            )
        work = context.enter(host, settings, repository, keys)
        try:
            made = backup_create.create(work, shown.event)
        finally:
            work.assembly.close()
        backup.remember(host, repository)
    emit("backup create", render.created_json(made), render.created_text(made), as_json=as_json)
    return ExitCode.OK


@app.command("list")
def list_(to: ToOption = None, credentials_file: CredentialsOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """List backups: how old, how large, proven or not."""
    from mlflow_onprem.backup import catalog as backup
    from mlflow_onprem.backup import lock, manifest, render
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    lock.require_root()
    settings, host = load(config).config, LocalHost()
    found = backup.listed(_repository(host, settings, to or settings.backup.to, credentials_file))
    emit("backup list", render.listed_json(found), render.listed_text(found, manifest.now()), as_json=as_json)
    return ExitCode.OK


@app.command()
def verify(
    backup: Annotated[str | None, typer.Argument(metavar="[ID]", help="Which backup. [default: the newest]", show_default=False)] = None,
    boot: Annotated[bool, typer.Option("--boot", help="Restore it into a disposable host and compare: only that proves it.")] = False,
    to: ToOption = None,
    credentials_file: CredentialsOption = None,
    passphrase_file: PassphraseOption = None,
    identity_file: IdentityOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Read every checksum again; with --boot, restore it into a disposable host and compare."""
    from mlflow_onprem.backup import catalog as command
    from mlflow_onprem.backup import context, lock, render
    from mlflow_onprem.backup import verify as backup_verify
    from mlflow_onprem.cli import progress
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    settings, host = load(config).config, LocalHost()
    place = to or settings.backup.to
    with lock.hold("backup verify"), progress.make(verbose=verbose) as shown:
        host.on_say, host.on_progress = shown.say, shown.transfer
        repository = _repository(host, settings, place, credentials_file)
        keys = _keys(host, settings, passphrase_file, identity_file, None)
        chosen = backup or command.newest(repository)
        found = backup_verify.verify(host, repository, chosen, lambda each: context.own_bucket(host, settings, each))
        if boot:
            from mlflow_onprem.backup import boot as backup_boot

            named = {
                "--credentials-file": credentials_file or settings.backup.credentials_file,
                "--passphrase-file": passphrase_file or settings.backup.passphrase_file,
                "--identity-file": identity_file,
            }
            source = backup_boot.Source(place, {option: path for option, path in named.items() if path})
            found = backup_verify.prove(host, repository, found, lambda each: backup_boot.boot(host, repository, each, keys, source, settings))
        command.remember(host, repository)
    emit("backup verify", render.verified_json(found), render.verified_text(found), as_json=as_json)
    return ExitCode.FAILED if found.damaged or found.lacking else ExitCode.OK


@app.command()
def prune(to: ToOption = None, credentials_file: CredentialsOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Remove what the rules of [backup] do not keep, and the objects nothing kept needs."""
    from mlflow_onprem.backup import catalog as backup
    from mlflow_onprem.backup import lock, render
    from mlflow_onprem.cli import progress
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    settings, host = load(config).config, LocalHost()
    with lock.hold("backup prune"), progress.make(verbose=False) as shown:
        repository = _repository(host, settings, to or settings.backup.to, credentials_file)
        done = backup.prune(host, repository, settings.backup, shown.say)
        backup.remember(host, repository)
    emit("backup prune", render.pruned_json(done), render.pruned_text(done), as_json=as_json)
    return ExitCode.OK


def restore(
    backup: Annotated[str, typer.Argument(metavar="ID", help="Which backup; `backup list` shows them.")],
    source: Annotated[str | None, typer.Option("--from", metavar="DIR|s3://...", help="Where it lies. [default: as configured]")] = None,
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
    from mlflow_onprem.backup import lock
    from mlflow_onprem.cli import progress
    from mlflow_onprem.restore import command
    from mlflow_onprem.restore.render import restored_json, restored_text
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.system.local_host import LocalHost

    settings, host = load(config).config, LocalHost()
    with exclusive(), lock.hold("restore", wait=30), progress.make(verbose=verbose) as shown:
        host.on_say, host.on_progress = shown.say, shown.transfer
        place = source or settings.backup.to
        repository = _repository(host, settings, place, credentials_file)
        keys = _keys(host, settings, passphrase_file, identity_file, None)
        done = command.restore(
            host, settings, repository, keys, backup, reload=lambda: load(config).config, into_empty=into_empty, with_rescue=not skip_backup,
            watch=shown.event,
        )  # fmt: skip
    emit("restore", restored_json(done), restored_text(done), as_json=as_json)
    return ExitCode.OK


def _repository(host: LocalHost, config: Config, place: str, credentials_file: str | None) -> Repository:
    from mlflow_onprem.backup.location import open_repository
    from mlflow_onprem.settings.config import backup_place

    try:
        return open_repository(host, backup_place(place), credentials_file or config.backup.credentials_file)
    except ValueError as wrong:
        raise ConfigError(f"{place}: {wrong}", "a place for backups is an absolute path or s3://bucket/prefix") from None


def _keys(host: LocalHost, config: Config, passphrase_file: str | None, identity_file: str | None, recipient: str | None) -> Keys:
    from mlflow_onprem.backup.encryption import Keys, read_key

    if recipient:
        return Keys(recipient=recipient)
    passphrase = read_key(host, passphrase_file or config.backup.passphrase_file)
    return Keys(passphrase, None if passphrase else config.backup.recipient, read_key(host, identity_file))
