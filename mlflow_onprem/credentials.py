"""Everything secret in the stack: invented once, kept in one file only root may read."""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
from dataclasses import dataclass
from typing import Any

from mlflow_onprem.errors import OnPremError
from mlflow_onprem.host import Host
from mlflow_onprem.resource import Mode
from mlflow_onprem.resources.files import File, FileState
from mlflow_onprem.secret import Secret

PATH = "/etc/mlflow-onprem/credentials.json"


@dataclass(frozen=True)
class Credentials:
    """The values in use. Names that are not secret (the store's root user, the access key, the administrator) stand with their secret."""

    minio_root_user: str
    minio_root_password: Secret
    s3_access_key: str
    s3_secret_key: Secret
    postgres_password: Secret
    mlflow_admin: str
    mlflow_admin_password: Secret
    flask_secret_key: Secret
    kek_passphrase: Secret
    webhook_key: Secret


def invent() -> Credentials:
    """New values for everything, of letters and digits where a value may end up in a URL or an ini file."""
    return Credentials(
        minio_root_user=f"root-{_word(8)}",
        minio_root_password=Secret(_word(40)),
        s3_access_key=_word(20).upper(),
        s3_secret_key=Secret(_word(40)),
        postgres_password=Secret(_word(40)),
        mlflow_admin="admin",
        mlflow_admin_password=Secret(_word(24)),
        flask_secret_key=Secret(_word(64)),
        kek_passphrase=Secret(_word(48)),
        # MLflow's webhook encryption key is a Fernet key: 32 bytes in URL-safe base64.
        webhook_key=Secret(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()),
    )


def load_or_invent(host: Host) -> Credentials:
    """What this host uses, or new values that nothing uses before the file is written.

    Raises NotVisible for anyone but root, OnPremError where the file is damaged.
    """
    text = host.read(PATH)
    return invent() if text is None else parse(text.decode())


def parse(text: str) -> Credentials:
    """Credentials from their file. Raises OnPremError without any of its content."""
    try:
        values = json.loads(text)
        kinds = {each.name: each.type for each in dataclasses.fields(Credentials)}
        missing = sorted(set(kinds) - set(values))
        if not missing and all(isinstance(values[name], str) and values[name] for name in kinds):
            fields: dict[str, Any] = {name: Secret(values[name]) if kind == "Secret" else values[name] for name, kind in kinds.items()}
            return Credentials(**fields)
    except (ValueError, TypeError):
        missing = []
    raise OnPremError(
        f"{PATH} is damaged" + (f": it lacks {', '.join(missing)}" if missing else ""),
        f"put it back from a backup; without it the stack's own passwords are lost. To start with new ones: mv {PATH} {PATH}.damaged, then install",
    )


def serialize(credentials: Credentials) -> Secret:
    """The file's text."""
    pairs = {each.name: getattr(credentials, each.name) for each in dataclasses.fields(credentials)}
    return Secret(json.dumps({name: value.reveal() if isinstance(value, Secret) else value for name, value in pairs.items()}, indent=1) + "\n")


def resource(credentials: Credentials) -> File:
    """The file itself: the first thing that is written, so that a run that dies later is finished with the same values."""
    return File(PATH, FileState(serialize(credentials), Mode(0o600), "root", "root"), holds_data=True)


def _word(length: int) -> str:
    letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "".join(secrets.choice(letters) for _ in range(length))
