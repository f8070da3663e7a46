"""What a restore keeps on the host: its journal, the backup's files opened, and the credentials that were here."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from mlflow_onprem.backup import encryption
from mlflow_onprem.backup.encryption import Keys
from mlflow_onprem.backup.manifest import Manifest
from mlflow_onprem.backup.repository import SPOOL, Repository
from mlflow_onprem.backup.transfer import INDEX, fetch
from mlflow_onprem.core import procedure
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.settings import credentials as credentials_module
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.config_file import DEFAULT_PATH
from mlflow_onprem.system.local_host import LocalHost

FOLDER = "/var/lib/mlflow-onprem/restore"
JOURNAL = f"{FOLDER}/journal.json"
BEFORE = f"{FOLDER}/credentials.before.json"
FILES = f"{FOLDER}/files"
#: Of the backup's credentials a host with a stack takes these: they belong to what stands in the databases.
WITH_THE_DATA = "mlflow"


class Journal(procedure.Journal):
    """A restore under way: of which backup, whether the host was bare, the backup of what was here, and whether it is being undone.

    `ready`: the services are up, and databases found beside those in use are of this restore.
    """

    id: str
    address: str
    bare: bool
    ready: bool = False
    rescue: str | None = None
    rescue_address: str | None = None


def read_journal(host: Host) -> Journal | None:
    """The restore that was interrupted, or None. Raises OnPremError for a damaged one."""
    return procedure.read(host, JOURNAL, Journal, f"look into it; to begin anew: rm -r {FOLDER}")


def forget(host: Host) -> None:
    """Remove the files of a restore that is over, and of one that ended between its journal's end and theirs; dumps of a backup that failed, too."""
    host.remove(FOLDER)
    host.remove(SPOOL)


def fetch_all(host: LocalHost, repository: Repository, manifest: Manifest, keys: Keys) -> None:
    """The backup's files, checked and opened. Raises OnPremError for a wrong checksum, ConfigError for a wrong key."""
    host.mkdir(FOLDER, mode=0o700, owner="root", group="root")
    host.remove(FILES)
    host.mkdir(FILES, mode=0o700, owner="root", group="root")
    folder = host.local(FILES)
    try:
        header = (
            fetch(repository, manifest, encryption.IDENTITY, folder / encryption.IDENTITY).read_bytes()
            if encryption.IDENTITY in manifest.files
            else None
        )
        opener = encryption.Opener(manifest.encryption, keys, header)
        for name in sorted(set(manifest.files) - {encryption.IDENTITY}):
            opener.open(fetch(repository, manifest, name, folder / name))
    except OSError as failed:
        raise OnPremError(f"{failed.filename or FILES}: {failed.strerror}", "free some space (`df -h`), then run the same command again") from failed


def drop_files(host: LocalHost) -> None:
    """Forget the backup's files; the journal of a restore that was begun stays."""
    host.remove(FILES)


def contents(host: LocalHost) -> dict[str, Any]:
    """What the databases held at the dump's moment."""
    found: dict[str, Any] = json.loads((host.local(FILES) / "contents.json").read_text())
    return found


def index(host: LocalHost) -> Path:
    """The list of objects."""
    return host.local(FILES) / INDEX


def dump(host: LocalHost, role: str) -> Path:
    """A database's dump."""
    return host.local(FILES) / f"{role}.dump"


def check_versions(manifest: Manifest, config: Config) -> None:
    """Raises Refused for a backup of a later MLflow, or for one whose rows name another bucket."""
    if _numbers(manifest.mlflow) > _numbers(config.mlflow.version):
        raise Refused(
            f"the backup is of MLflow {manifest.mlflow}, this host runs {config.mlflow.version}",
            f'a database goes to the same or a later version only: set version = "{manifest.mlflow}" in [mlflow], then restore',
        )
    if "direct" in (manifest.artifacts, config.mlflow.artifacts) and manifest.bucket != config.minio.bucket:
        raise Refused(
            f"the backup's runs name bucket {manifest.bucket}, this host's is {config.minio.bucket}", f'set bucket = "{manifest.bucket}" in [minio]'
        )


def check_rotation(host: LocalHost) -> None:
    """Raises Refused while credentials are between two generations."""
    text = host.read(credentials_module.PATH)
    if text is not None and credentials_module.parse(text.decode()).rotation is not None:
        raise Refused("a rotation of credentials is not finished", "finish it first: sudo mlflow-onprem rotate-credentials")


def unpack_missing(host: LocalHost) -> list[str]:
    """Files of the backed-up host that are not here, for root alone until install gives them their owners; what was kept, in words."""
    notes = []
    found = encryption.unpack(host.local(FILES) / "host.tar")
    # The credentials come last: with them the host counts as one with a stack.
    for path in sorted(found, key=lambda each: each == credentials_module.PATH):
        content, mode = found[path]
        have = host.read(path)
        if have is None:
            host.mkdir(str(Path(path).parent), mode=0o755, owner="root", group="root")
            host.write(path, content, mode=mode if path == DEFAULT_PATH else mode & 0o700, owner="root", group="root")
        elif have != content and path == DEFAULT_PATH:
            notes.append(f"kept {path} as it was here; the backup's own differs")
    return notes


def merge_credentials(host: LocalHost) -> list[str]:
    """MLflow's own secrets from the backup beside this host's others; what was here is kept for the way back."""
    content, _ = encryption.unpack(host.local(FILES) / "host.tar")[credentials_module.PATH]
    text = host.read(credentials_module.PATH)
    assert text is not None
    if host.read(BEFORE) is None:
        host.write(BEFORE, text, mode=0o600, owner="root", group="root")
    here, there = credentials_module.parse(text.decode()), credentials_module.parse(content.decode())
    secrets = credentials_module.GROUPS[WITH_THE_DATA]
    fields = {name: getattr(there, name) for names in secrets.values() for name in names}
    dates = {name: there.dates[name] for name in secrets if name in there.dates}
    merged = dataclasses.replace(here, **fields, mlflow_admin=there.mlflow_admin, dates={**here.dates, **dates})
    host.write(credentials_module.PATH, credentials_module.serialize(merged).reveal().encode(), mode=0o600, owner="root", group="root")
    return [] if merged == here else ["accounts and MLflow's own secrets are those of the backup"]


def credentials_back(host: LocalHost) -> None:
    """What `merge_credentials` replaced."""
    content = host.read(BEFORE)
    if content is not None:
        host.write(credentials_module.PATH, content, mode=0o600, owner="root", group="root")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
