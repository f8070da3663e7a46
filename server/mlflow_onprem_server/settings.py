"""The settings of the MLflow service, read from environment variables.

No value here is a secret: a secret is named by the path of the file that holds it, so that a
worker can read it again after it changed. `docs/map.md` has the table of all names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

ArtifactMode = Literal["proxied", "presigned", "direct"]
MODES: tuple[ArtifactMode, ...] = ("proxied", "presigned", "direct")

# MLflow's variable for a secret value -> our variable with the path of the file that holds it.
SECRET_FILES: Mapping[str, str] = {
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "ONPREM_FLASK_SECRET_FILE",
    "MLFLOW_CRYPTO_KEK_PASSPHRASE": "ONPREM_KEK_PASSPHRASE_FILE",
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": "ONPREM_WEBHOOK_KEY_FILE",
}
ADMIN_PASSWORD_FILE = "ONPREM_ADMIN_PASSWORD_FILE"  # noqa: S105 - the name of a variable


class SettingsError(Exception):
    """A setting is missing or wrong; the message says which one and what it should be."""


@dataclass(frozen=True)
class Settings:
    """Everything the launcher, the workers and the schema command need to know."""

    database_uri: str
    bucket: str
    host: str = "127.0.0.1"
    port: int = 5000
    workers: int = 2
    artifacts: ArtifactMode = "proxied"
    public_s3_url: str | None = None
    auth: bool = True
    jobs: bool = False
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    webhook_hosts: tuple[str, ...] = ()
    pool_size: int = 5
    pool_overflow: int = 10
    graceful_seconds: int = 60
    healthcheck_seconds: int = 60
    access_log: bool = False
    secret_files: Mapping[str, Path] = field(default_factory=dict)
    admin_password_file: Path | None = None


def read(environ: Mapping[str, str]) -> Settings:
    """Build the settings from `environ`, or say in plain words what is wrong with it."""
    mode = environ.get("ONPREM_ARTIFACTS", "proxied")
    if mode not in MODES:
        raise SettingsError(f"ONPREM_ARTIFACTS is {mode!r}; it must be one of {', '.join(MODES)}")
    public_s3_url = environ.get("ONPREM_PUBLIC_S3_URL") or None
    if mode == "presigned":
        _check_public_url(public_s3_url)
    auth = _boolean(environ, "ONPREM_AUTH", True)
    if auth and not environ.get("MLFLOW_AUTH_CONFIG_PATH"):
        raise SettingsError("MLFLOW_AUTH_CONFIG_PATH is not set; with accounts on it names MLflow's auth ini file")
    admin = environ.get(ADMIN_PASSWORD_FILE)
    return Settings(
        database_uri=_database_uri(environ),
        bucket=_required(environ, "ONPREM_BUCKET", "the bucket that holds the artifacts"),
        host=environ.get("ONPREM_HOST") or "127.0.0.1",
        port=_integer(environ, "ONPREM_PORT", 5000, 0, 65535),
        workers=_integer(environ, "ONPREM_WORKERS", 2, 1, 256),
        artifacts=mode,
        public_s3_url=public_s3_url,
        auth=auth,
        jobs=_boolean(environ, "ONPREM_JOBS", False),
        hosts=_names(environ, "ONPREM_HOSTS"),
        origins=_names(environ, "ONPREM_ORIGINS"),
        webhook_hosts=_names(environ, "ONPREM_WEBHOOK_HOSTS"),
        pool_size=_integer(environ, "ONPREM_POOL_SIZE", 5, 1, 1000),
        pool_overflow=_integer(environ, "ONPREM_POOL_OVERFLOW", 10, 1, 1000),
        graceful_seconds=_integer(environ, "ONPREM_GRACEFUL_SECONDS", 60, 1, 3600),
        healthcheck_seconds=_integer(environ, "ONPREM_HEALTHCHECK_SECONDS", 60, 1, 3600),
        access_log=_boolean(environ, "ONPREM_ACCESS_LOG", False),
        secret_files=_secret_files(environ, auth),
        admin_password_file=Path(admin) if admin else None,
    )


def read_secret(path: Path, variable: str) -> str:
    """Return the secret of a file, the first where it holds several."""
    return read_secrets(path, variable)[0]


def read_secrets(path: Path, variable: str) -> list[str]:
    """Return the lines of a secret's file: the one in use, then those still accepted. An empty file is an error, never an empty secret."""
    try:
        value = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"cannot read {path} (named by {variable}): {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} (named by {variable}) is not text") from None
    if not value:
        raise SettingsError(f"{path} (named by {variable}) is empty")
    return value.splitlines()


def _database_uri(environ: Mapping[str, str]) -> str:
    uri = _required(environ, "ONPREM_DATABASE_URI", "MLflow's database, such as postgresql+psycopg://user@/mlflow")
    try:
        password = urlsplit(uri).password
    except ValueError:
        raise SettingsError("ONPREM_DATABASE_URI is not a valid URI") from None
    if password is not None or "password=" in uri:
        # The value is not repeated: it would end up in the journal.
        raise SettingsError("ONPREM_DATABASE_URI contains a password; use PGPASSFILE or peer authentication instead")
    return uri


def _check_public_url(url: str | None) -> None:
    if not url:
        raise SettingsError("ONPREM_PUBLIC_S3_URL is not set; presigned artifacts need the store's address for clients")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise SettingsError(f"ONPREM_PUBLIC_S3_URL is {url!r}; it must start with http:// or https:// and name a host")


def _secret_files(environ: Mapping[str, str], auth: bool) -> dict[str, Path]:
    files = {variable: Path(environ[ours]) for variable, ours in SECRET_FILES.items() if environ.get(ours)}
    if auth and "MLFLOW_FLASK_SERVER_SECRET_KEY" not in files:
        raise SettingsError("ONPREM_FLASK_SECRET_FILE is not set; accounts need a secret key for the sign-up form")
    return files


def _required(environ: Mapping[str, str], name: str, meaning: str) -> str:
    value = environ.get(name)
    if not value:
        raise SettingsError(f"{name} is not set; it names {meaning}")
    return value


def _integer(environ: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = environ.get(name) or str(default)
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise SettingsError(f"{name} is {text!r}; it must be a whole number from {low} to {high}")
    return value


def _boolean(environ: Mapping[str, str], name: str, default: bool) -> bool:
    text = environ.get(name) or str(default)
    value = {"true": True, "1": True, "false": False, "0": False}.get(text.lower())
    if value is None:
        raise SettingsError(f"{name} is {text!r}; it must be true or false")
    return value


def _names(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in environ.get(name, "").split(",") if part.strip())
