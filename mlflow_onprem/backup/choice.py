"""Which repository and which keys: what the options of a verb name, otherwise what [backup] names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_onprem.backup.encryption import Keys, read_key
from mlflow_onprem.backup.location import open_repository
from mlflow_onprem.core.errors import ConfigError
from mlflow_onprem.core.host import Host
from mlflow_onprem.settings.config import Config, backup_place

if TYPE_CHECKING:
    from mlflow_onprem.backup.boot import Source
    from mlflow_onprem.backup.repository import Repository


@dataclass(frozen=True)
class Choice:
    """Options as they were given; None where one was left out."""

    to: str | None = None
    credentials_file: str | None = None
    passphrase_file: str | None = None
    identity_file: str | None = None
    recipient: str | None = None

    def place(self, config: Config) -> str:
        """A folder or s3://bucket/prefix."""
        return self.to or config.backup.to

    def repository(self, host: Host, config: Config) -> Repository:
        """Raises ConfigError for a place that is none, and where its credentials are missing."""
        place = self.place(config)
        try:
            return open_repository(host, backup_place(place), self.credentials_file or config.backup.credentials_file)
        except ValueError as wrong:
            raise ConfigError(f"{place}: {wrong}", "a place for backups is an absolute path or s3://bucket/prefix") from None

    def keys(self, host: Host, config: Config) -> Keys:
        """Raises ConfigError where a file that holds one is missing."""
        if self.recipient:
            return Keys(recipient=self.recipient)
        passphrase = read_key(host, self.passphrase_file or config.backup.passphrase_file)
        return Keys(passphrase, None if passphrase else config.backup.recipient, read_key(host, self.identity_file))

    def keys_to_encrypt(self, host: Host, config: Config) -> Keys:
        """Keys for a new backup. Raises ConfigError where it would leave this host and there are none."""
        found = self.keys(host, config)
        if self.place(config).startswith("s3://") and found.kind == "none":
            raise ConfigError(
                "a backup that leaves this host is encrypted: there is no key",
                "--passphrase-file FILE, or --recipient age1... (or their keys in [backup])",
            )
        return found

    def source(self, config: Config) -> Source:
        """The same for the command that runs inside a disposable host."""
        from mlflow_onprem.backup.boot import Source

        named = {
            "--credentials-file": self.credentials_file or config.backup.credentials_file,
            "--passphrase-file": self.passphrase_file or config.backup.passphrase_file,
            "--identity-file": self.identity_file,
        }
        return Source(self.place(config), {option: path for option, path in named.items() if path})
