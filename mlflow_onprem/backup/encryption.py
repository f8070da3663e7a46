"""Secrets of a host in one archive, and encryption with age for backups that leave it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_onprem.backup import passphrase
from mlflow_onprem.core.errors import ConfigError, OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.secret import Secret

if TYPE_CHECKING:
    from pyrage.x25519 import Identity

ETC = "/etc/mlflow-onprem"
#: How a backup's passphrase becomes the age identity its files are encrypted to.
IDENTITY = "passphrase.json"
SUFFIX = ".age"


@dataclass(frozen=True)
class Keys:
    """What to encrypt with (a passphrase or an age recipient, or neither) and what to decrypt with (the same passphrase, or an age identity)."""

    passphrase: Secret | None = None
    recipient: str | None = None
    identity: Secret | None = None

    @property
    def kind(self) -> str:
        return "passphrase" if self.passphrase else "recipient" if self.recipient else "none"


class Sealer:
    """Encrypts the files of one backup."""

    def __init__(self, keys: Keys) -> None:
        from pyrage import x25519

        self.header = passphrase.generate() if keys.passphrase is not None else None
        if keys.passphrase is not None and self.header is not None:
            self._recipient = passphrase.identity(keys.passphrase, self.header).to_public()
            return
        try:
            self._recipient = x25519.Recipient.from_str(keys.recipient or "")
        except Exception as wrong:
            raise ConfigError("the age recipient is not one", "it looks like age1...: make a pair with `age-keygen`") from wrong

    def seal(self, path: Path) -> Path:
        """The encrypted file in place of the plain one, in a stream."""
        import pyrage

        sealed = path.with_name(path.name + SUFFIX)
        pyrage.encrypt_file(str(path), str(sealed), [self._recipient])
        path.unlink()
        return sealed


class Opener:
    """Decrypts the files of one backup. Raises ConfigError where the key is missing or not the right one."""

    def __init__(self, kind: str, keys: Keys, header: bytes | None) -> None:
        from pyrage import x25519

        self._identity: Identity | None = None
        if kind == "none":
            return
        if kind == "recipient" and keys.identity is None:
            raise ConfigError("this backup is encrypted to an age recipient", "name the file with its private half: --identity-file FILE")
        if kind == "passphrase" and keys.passphrase is None:
            raise ConfigError("this backup is encrypted with a passphrase", "name the file with it: --passphrase-file FILE")
        if kind == "passphrase":
            assert keys.passphrase is not None
            self._identity = passphrase.identity(keys.passphrase, header or b"")
            return
        assert keys.identity is not None
        try:
            self._identity = x25519.Identity.from_str(_identity_line(keys.identity.reveal()))
        except Exception as wrong:
            raise ConfigError("the identity file holds no age identity", "it is the file that `age-keygen` wrote: AGE-SECRET-KEY-1...") from wrong

    def open(self, path: Path) -> Path:
        """The plain file in place of the encrypted one; a file that is not encrypted as it is."""
        if path.suffix != SUFFIX:
            return path
        import pyrage

        plain = path.with_suffix("")
        try:
            pyrage.decrypt_file(str(path), str(plain), [self._identity])
        except pyrage.DecryptError as wrong:
            raise ConfigError("the key does not open this backup", "it was encrypted with another passphrase or to another recipient") from wrong
        path.unlink()
        return plain


def read_key(host: Host, path: str | None) -> Secret | None:
    """The content of a passphrase or identity file. Raises ConfigError."""
    if path is None:
        return None
    content = host.read(path)
    found = host.stat(path)
    if content is None or not content.strip():
        raise ConfigError(f"{path} is {'missing' if content is None else 'empty'}", "write it with mode 0600, owned by root")
    if found is not None and found.kind == "file" and found.mode & 0o077:
        raise ConfigError(f"{path} may be read by others", f"chmod 0600 {path}")
    return Secret(content.decode(errors="replace").strip())


def pack(host: Host, target: Path, also: Iterable[str], without: Iterable[str]) -> None:
    """Configuration and secrets of this host as a tar: everything below /etc/mlflow-onprem, and the files named. Modes are kept, owners are not."""
    left_out = set(without)
    with tarfile.open(target, "w") as tar:
        for path in sorted({*_below(host, ETC), *also} - left_out):
            content, found = host.read(path), host.stat(path)
            if content is None or found is None:
                continue
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode, member.mtime = len(content), found.mode, int(found.mtime)
            tar.addfile(member, io.BytesIO(content))


def unpack(archive: Path) -> dict[str, tuple[bytes, int]]:
    """Content and mode by absolute path. Raises OnPremError for an archive that is none or reaches elsewhere."""
    found = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if not member.isfile() or ".." in Path(member.name).parts or member.name.startswith("/"):
                    raise OnPremError(f"the archive of secrets holds {member.name}, which is not a plain file", "this backup is not to be trusted")
                file = tar.extractfile(member)
                assert file is not None
                found[f"/{member.name}"] = (file.read(), member.mode)
    except tarfile.TarError as broken:
        raise OnPremError("the archive of secrets is damaged", "take another backup: `mlflow-onprem backup list`") from broken
    return found


def _below(host: Host, folder: str) -> Iterable[str]:
    for name in host.listdir(folder):
        path = f"{folder}/{name}"
        found = host.stat(path)
        if found is not None and found.kind == "directory":
            yield from _below(host, path)
        elif found is not None and found.kind == "file":
            yield path


def _identity_line(text: str) -> str:
    """The key in a file that `age-keygen` wrote, comments and all."""
    return next((line.strip() for line in text.splitlines() if line.startswith("AGE-SECRET-KEY-")), "")
