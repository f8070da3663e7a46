"""Options that several verbs have, each with its one name and its one help text."""

from __future__ import annotations

from typing import Annotated

import typer

ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="PATH", help="The configuration file. [default: /etc/mlflow-onprem/config.toml]", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, progress on standard error.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show what needed no change, too.")]

RepositoryOption = Annotated[
    str | None, typer.Option("--to", "--from", metavar="DIR|s3://...", help="Where backups are kept. [default: as configured]", show_default=False)
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="DIR|s3://...", help="Where backups are kept. [default: as configured]", show_default=False)
]
CredentialsOption = Annotated[str | None, typer.Option("--credentials-file", metavar="FILE", help="Keys of the other S3 store.", show_default=False)]
PassphraseOption = Annotated[
    str | None, typer.Option("--passphrase-file", metavar="FILE", help="File that holds the encryption passphrase.", show_default=False)
]
IdentityOption = Annotated[
    str | None, typer.Option("--identity-file", metavar="FILE", help="File that holds the private key of the age recipient.", show_default=False)
]
