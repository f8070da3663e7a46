"""Everything secret in the stack: generated once, kept in one file only root may read, and the steps from one generation to the next."""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import Any

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Mode, Text
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.files import File, FileState

PATH = "/etc/mlflow-onprem/credentials.json"
#: Since when each secret is what it is; no values, for everybody to read (`status` needs no root).
DATES = "/var/lib/mlflow-onprem/secret-dates.json"
#: Stands in DATES while a rotation is under way.
UNFINISHED = "rotation-unfinished"
#: What can be rotated by itself, in the order in which it happens: each secret with the fields that make it up.
GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "s3": {"s3-access-key": ("s3_access_key", "s3_secret_key")},
    "postgres": {"postgres-password": ("postgres_password",)},
    "mlflow": {
        "mlflow-admin-password": ("mlflow_admin_password",),
        "flask-secret-key": ("flask_secret_key",),
        "kek-passphrase": ("kek_passphrase",),
        "webhook-key": ("webhook_key",),
    },
    "minio-root": {"minio-root-password": ("minio_root_password",)},
}
ROOT = "minio-root"


class Stage(str, Enum):
    """How far a rotation is. Each is written down before anything is done for it."""

    PENDING = "pending"  # the other generation is new: it is made known, the old one is in use
    CURRENT = "current"  # the other generation is old: the new one is in use, the old one still works
    PREVIOUS = "previous"  # the other generation is withdrawn
    ROOT = "root"  # at last the store's root password, which one server has one of


@dataclass(frozen=True)
class Rotation:
    """A rotation under way. `other` is the generation beside the one in use; `back` is True where the rotation is being rolled back."""

    stage: Stage
    scope: tuple[str, ...]
    started: str
    other: Credentials
    back: bool = False


@dataclass(frozen=True)
class Credentials:
    """The values in use. Names that are not secret (the store's root user, the access key, the administrator) stand with their secret.

    `dates` says since when, in ISO 8601, each secret of GROUPS has been in use.
    """

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
    dates: Mapping[str, str] = field(default_factory=dict)
    rotation: Rotation | None = None


_KINDS = {each.name: each.type for each in dataclasses.fields(Credentials) if each.type in ("str", "Secret")}


def names(scope: Iterable[str] = tuple(GROUPS)) -> tuple[str, ...]:
    """The secrets of these groups."""
    return tuple(name for group in scope for name in GROUPS[group])


def generate(dates: Mapping[str, str] | None = None) -> Credentials:
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
        dates=dict.fromkeys(names(), _now()) if dates is None else dates,
    )


# from one generation to the next -------------------------------------------------------------------------------------


def begin(credentials: Credentials, scope: Iterable[str], new: Credentials) -> Credentials:
    """The first step of a rotation of these groups: new values beside those in use."""
    ordered, now = tuple(group for group in GROUPS if group in set(scope)), _now()
    other = _taking(credentials, dataclasses.replace(new, dates=dict.fromkeys(names(), now)), ordered)
    begun = dataclasses.replace(credentials, dates={**credentials.dates, UNFINISHED: now})
    rotation = Rotation(Stage.PENDING, ordered, now, other)
    return _root(begun, rotation) if ordered == (ROOT,) else dataclasses.replace(begun, rotation=rotation)


def advance(credentials: Credentials) -> Credentials:
    """The step after this one, once everything is as this one wants it; without a rotation at the end."""
    rotation = credentials.rotation
    assert rotation is not None
    if rotation.stage is Stage.PENDING:
        return _swapped(credentials, rotation, Stage.CURRENT)
    if rotation.stage is Stage.CURRENT:
        return dataclasses.replace(credentials, rotation=dataclasses.replace(rotation, stage=Stage.PREVIOUS))
    if rotation.stage is Stage.PREVIOUS and ROOT in rotation.scope and not rotation.back:
        return _root(credentials, rotation)
    return dataclasses.replace(credentials, rotation=None, dates={name: date for name, date in credentials.dates.items() if name != UNFINISHED})


def roll_back(credentials: Credentials) -> Credentials:
    """From a step that failed towards the generation before; the new values are withdrawn. Only while the old ones still work."""
    rotation = credentials.rotation
    assert rotation is not None
    assert rotation.stage in (Stage.PENDING, Stage.CURRENT)
    if rotation.stage is Stage.PENDING:
        return dataclasses.replace(credentials, rotation=dataclasses.replace(rotation, stage=Stage.PREVIOUS, back=True))
    return _swapped(credentials, dataclasses.replace(rotation, back=True), Stage.CURRENT)


def accepted(credentials: Credentials, name: str) -> tuple[Secret, ...]:
    """The values of one field that must work now, the one to use first."""
    value, rotation = getattr(credentials, name), credentials.rotation
    other = getattr(rotation.other, name) if rotation is not None and rotation.stage in (Stage.PENDING, Stage.CURRENT) else value
    return (value,) if other == value else (value, other)


def _swapped(credentials: Credentials, rotation: Rotation, stage: Stage) -> Credentials:
    groups = [group for group in rotation.scope if group != ROOT]
    mine = _taking(credentials, rotation.other, groups)
    other = _taking(rotation.other, credentials, groups)
    return dataclasses.replace(mine, rotation=dataclasses.replace(rotation, stage=stage, other=other))


def _root(credentials: Credentials, rotation: Rotation) -> Credentials:
    mine, other = _taking(credentials, rotation.other, [ROOT]), _taking(rotation.other, credentials, [ROOT])
    return dataclasses.replace(mine, rotation=dataclasses.replace(rotation, stage=Stage.ROOT, other=other))


def _taking(credentials: Credentials, source: Credentials, scope: Iterable[str]) -> Credentials:
    """The credentials with the values, and their dates, of these groups from the other ones."""
    groups = tuple(scope)
    fields = {name: getattr(source, name) for group in groups for each in GROUPS[group].values() for name in each}
    kept = {name: date for name, date in credentials.dates.items() if name not in names(groups)}
    dates = {name: source.dates[name] for name in names(groups) if name in source.dates}
    return dataclasses.replace(credentials, **fields, dates={**kept, **dates})


# on disk -------------------------------------------------------------------------------------------------------------


def load_or_generate(host: Host) -> Credentials:
    """What this host uses, or new values that nothing uses before the file is written.

    Raises NotVisible for anyone but root, OnPremError where the file is damaged.
    """
    text = host.read(PATH)
    return generate() if text is None else parse(text.decode())


def parse(text: str) -> Credentials:
    """Credentials from their file. Raises OnPremError without any of its content."""
    missing: list[str] = []
    try:
        values = json.loads(text)
        missing = sorted(set(_KINDS) - set(values))
        if not missing:
            return _read(values)
    except (ValueError, TypeError, KeyError):
        missing = []
    raise OnPremError(
        f"{PATH} is damaged" + (f": it lacks {', '.join(missing)}" if missing else ""),
        "put it back from a backup (docs/operations-backup.md, at its end: without this program); without it the stack's own passwords are lost. "
        f"To start with new ones: mv {PATH} {PATH}.damaged, then install",
    )


def _read(values: Mapping[str, Any]) -> Credentials:
    if not all(isinstance(values[name], str) and values[name] for name in _KINDS):
        raise ValueError("not text")
    fields: dict[str, Any] = {name: Secret(values[name]) if kind == "Secret" else values[name] for name, kind in _KINDS.items()}
    record, rotation = values.get("rotation"), None
    if record is not None:
        stage, scope = Stage(record["stage"]), tuple(group for group in GROUPS if group in record["scope"])
        rotation = Rotation(stage, scope, record["started"], _read(record["other"]), bool(record["back"]))
    return Credentials(**fields, dates=dict(values.get("dates", {})), rotation=rotation)


def serialize(credentials: Credentials) -> Secret:
    """The file's text."""
    return Secret(json.dumps(_plain(credentials), indent=1) + "\n")


def _plain(credentials: Credentials) -> dict[str, Any]:
    values = {name: getattr(credentials, name) for name in _KINDS}
    plain = {name: value.reveal() if isinstance(value, Secret) else value for name, value in values.items()}
    plain["dates"], rotation = dict(credentials.dates), credentials.rotation
    if rotation is not None:
        other = {"scope": list(rotation.scope), "started": rotation.started, "other": _plain(rotation.other), "back": rotation.back}
        plain["rotation"] = {"stage": rotation.stage.value, **other}
    return plain


def resource(credentials: Credentials) -> File:
    """The file itself: the first thing that is written, so that a run that dies later is finished with the same values."""
    return File(PATH, FileState(serialize(credentials), Mode(0o600), "root", "root"), holds_data=True)


def dates_resource(credentials: Credentials) -> File:
    """The dates alone."""
    text = Text(json.dumps(dict(credentials.dates), indent=1, sort_keys=True) + "\n")
    return File(DATES, FileState(text, Mode(0o644), "root", "root"), holds_data=True)


def read_dates(host: Host) -> Mapping[str, str]:
    """Since when each secret is what it is, for any user; empty where nothing is installed."""
    try:
        found = json.loads(host.read(DATES) or b"{}")
    except ValueError:
        return {}
    return {str(name): str(date) for name, date in found.items()} if isinstance(found, dict) else {}


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _word(length: int) -> str:
    letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "".join(secrets.choice(letters) for _ in range(length))
