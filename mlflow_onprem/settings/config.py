"""The configuration: one TOML file, environment variables above it, everything checked before anything is touched."""

from __future__ import annotations

import ipaddress
import re
from pathlib import PurePosixPath
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mlflow_onprem.settings import public_names


def _plain_path(text: str) -> str:
    """An absolute path that systemd, a shell and MinIO all read as one word."""
    if not text.startswith("/"):
        raise ValueError("must be an absolute path, such as /srv/data")
    if not re.fullmatch(r"[A-Za-z0-9_./@:+-]+", text) or ".." in PurePosixPath(text).parts:
        raise ValueError("may hold letters, digits and _ . / @ : + - only: systemd and MinIO would misread other characters")
    return text.rstrip("/") or "/"


def _data_path(text: str) -> str:
    if _plain_path(text) in ("/", "/etc", "/usr", "/var", "/home", "/opt", "/root", "/boot", "/srv", "/tmp"):  # noqa: S108  # it is refused, not used
        raise ValueError("must be a folder of its own, such as /opt/minio/data")
    return _plain_path(text)


def _volume(text: str) -> str:
    """A drive's folder, or MinIO's own notation for several: /mnt/disk{1...4}, http://host{1...4}:9000/data."""
    if not re.fullmatch(r"(https?://)?[A-Za-z0-9_./@:+{}-]+", text) or not (text.startswith(("/", "http://", "https://"))):
        raise ValueError("must be an absolute path or http(s)://host/path, with MinIO's {1...4} for several")
    return text


def _bucket(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", text) or ".." in text or re.fullmatch(r"[\d.]+", text):
        raise ValueError("must be an S3 bucket name: 3 to 63 lower-case letters, digits, dots and hyphens, not an address")
    return text


def _sql_name(text: str) -> str:
    if (
        not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", text)
        or text.startswith("pg_")
        or text in ("postgres", "template0", "template1", "all", "replication")
    ):
        raise ValueError("must be a plain PostgreSQL name: lower-case letters, digits, underscores, at most 63, not one of PostgreSQL's own")
    return text


def _cidr(text: str) -> str:
    if "/" not in text:
        raise ValueError(f"must be a network in CIDR form, such as {text}/32 for one address")
    return str(ipaddress.ip_network(text))


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # reading the port raises ValueError where it is none
        raise ValueError("must be http://host:port or https://host:port")
    return _no_password(text).rstrip("/")


def _no_password(text: str) -> str:
    parts = urlsplit(text)
    if parts.password or re.search(r"(^|&)(ssl)?password=", parts.query):
        raise ValueError("has a password in it; put the password into a file of its own and name that file")
    return text


def _download(text: str) -> str:
    if not text.startswith(("http://", "https://", "file:///", "/")):
        raise ValueError("must be http(s)://..., file:///path or /path")
    return _no_password(text)


def _account(text: str) -> str:
    """An account that systemd, PostgreSQL and chown all read as one word; a directory's may have a domain behind @."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}(@[A-Za-z0-9.-]+)?", text):
        raise ValueError("must be an account's name: letters, digits and _ . - (and @domain), such as mlflow-server")
    if text in ("root", "postgres", "nobody", "daemon", "www-data"):
        raise ValueError(f"{text} is another program's or everybody's; a service gets an account of its own")
    return text


#: strict: `true` is not 1, and "5000" not a number.
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]
PlainPath = Annotated[str, AfterValidator(_plain_path)]
AccountName = Annotated[str, AfterValidator(_account)]
Address = Annotated[str, AfterValidator(_address)]
SqlName = Annotated[str, AfterValidator(_sql_name)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]


class Section(BaseModel):
    """Frozen; unknown keys are refused; a value never shows in an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class MinioSection(Section):
    """[minio]: the S3 object store."""

    mode: Literal["local", "external"] = "local"
    endpoint: HttpUrl | None = None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = "us-east-1"
    credentials_file: PlainPath | None = None
    distribution: Literal["silo", "minio", "source"] = "silo"
    url: Annotated[str, AfterValidator(_download)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    data_dir: Annotated[str, AfterValidator(_data_path)] = "/opt/minio/data"
    volumes: tuple[Annotated[str, AfterValidator(_volume)], ...] = ()
    bind: Address = "127.0.0.1"
    port: Port = 9000
    console_bind: Address = "127.0.0.1"
    console_port: Port = 9001
    public_url: HttpUrl | None = None
    bucket: Annotated[str, AfterValidator(_bucket)] = "mlflow"
    user: AccountName = "minio"

    @model_validator(mode="after")
    def _fits(self) -> MinioSection:
        if self.mode == "external" and not (self.endpoint and self.credentials_file):
            raise ValueError('mode = "external" needs endpoint and credentials_file (an AWS shared credentials file)')
        if self.mode == "local" and (self.endpoint or self.credentials_file):
            raise ValueError('endpoint and credentials_file go with mode = "external"')
        if self.url is not None and self.sha256 is None:
            raise ValueError("url needs sha256 (get it with: sha256sum FILE)")
        return self


class PostgresSection(Section):
    """[postgres]: the database server."""

    mode: Literal["local", "external"] = "local"
    url: Annotated[str, AfterValidator(_no_password)] | None = None
    password_file: PlainPath | None = None
    version: Annotated[int, Field(ge=13, le=30, strict=True)] | None = None
    port: Port = 5432
    database: SqlName = "mlflow"
    user: SqlName = "mlflow_user"
    allowed_networks: tuple[Annotated[str, AfterValidator(_cidr)], ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> PostgresSection:
        if self.mode == "external":
            if not (self.url and self.password_file):
                raise ValueError('mode = "external" needs url (postgresql://user@host:5432/database) and password_file')
            parts = urlsplit(self.url)
            named = parts.hostname and parts.username and parts.path.strip("/")
            if parts.scheme not in ("postgresql", "postgres") or not named or parts.port == 0:
                raise ValueError("url must be postgresql://user@host:5432/database")
        elif self.url or self.password_file:
            raise ValueError('url and password_file go with mode = "external"')
        return self


class AuthSection(Section):
    """[mlflow.auth]: accounts."""

    enabled: bool = True
    database: SqlName = "mlflow_auth"
    default_permission: Literal["READ", "USE", "EDIT", "MANAGE", "NO_PERMISSIONS"] = "READ"
    cache_seconds: Annotated[int, Field(ge=0, le=3600, strict=True)] = 60


class MlflowSection(Section):
    """[mlflow]: the tracking server."""

    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")] = "3.17.2"
    python: Literal["auto", "3.10", "3.11", "3.12", "3.13"] = "auto"
    bind: Address = "0.0.0.0"  # noqa: S104  # it serves the network; accounts are on by default
    port: Port = 5000
    hosts: tuple[Annotated[str, AfterValidator(public_names.host)], ...] = ()
    origins: tuple[Annotated[str, AfterValidator(public_names.origin)], ...] = ()
    webhook_hosts: tuple[Annotated[str, AfterValidator(public_names.receiver)], ...] = ()
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=64, strict=True)] = "auto"
    jobs: bool = False
    artifacts: Literal["proxied", "presigned", "direct"] = "proxied"
    extra_packages: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._\[\],=<>!~-]*$")], ...] = ()
    user: AccountName = "mlflow"
    auth: AuthSection = AuthSection()


def backup_place(text: str) -> str:
    """A folder of its own or s3://bucket/prefix, without a slash at its end. Raises ValueError."""
    if text.startswith("s3://"):
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        _bucket(bucket)
        if not re.fullmatch(r"[A-Za-z0-9_./-]*", prefix):
            raise ValueError("may hold letters, digits and _ . / - only behind the bucket")
        return text.rstrip("/")
    return _data_path(text)


class BackupSection(Section):
    """[backup]: where copies are kept, when they are made, how many are kept."""

    to: Annotated[str, AfterValidator(backup_place)] = "/var/backups/mlflow-onprem"
    schedule: Annotated[str, Field(pattern=r"^[A-Za-z0-9*:,./~ -]+$")] | None = None
    keep_daily: Annotated[int, Field(ge=1, le=3660, strict=True)] = 7
    keep_weekly: Annotated[int, Field(ge=0, le=520, strict=True)] = 4
    keep_monthly: Annotated[int, Field(ge=0, le=120, strict=True)] = 6
    credentials_file: PlainPath | None = None
    passphrase_file: PlainPath | None = None
    recipient: Annotated[str, Field(pattern=r"^age1[a-z0-9]{20,}$")] | None = None

    @model_validator(mode="after")
    def _fits(self) -> BackupSection:
        if self.passphrase_file and self.recipient:
            raise ValueError("passphrase_file and recipient exclude each other")
        if self.to.startswith("s3://"):
            if self.credentials_file is None:
                raise ValueError('to = "s3://..." needs credentials_file')
            if not (self.passphrase_file or self.recipient):
                raise ValueError("a backup that leaves this host is encrypted: set passphrase_file, or recipient to an age public key")
        return self


class RotationSection(Section):
    """[rotation]: new credentials from time to time."""

    every: Annotated[str, Field(pattern=r"^[1-9]\d{0,3}[dw]$")] | None = None


class GcSection(Section):
    """[gc]: when what users deleted leaves database and bucket for good."""

    every: Literal["daily", "weekly", "monthly"] | None = None
    older_than: Annotated[str, Field(pattern=r"^\d{1,5}[dhm]$")] = "30d"


class Config(Section):
    """The whole file."""

    minio: MinioSection = MinioSection()
    postgres: PostgresSection = PostgresSection()
    mlflow: MlflowSection = MlflowSection()
    backup: BackupSection = BackupSection()
    rotation: RotationSection = RotationSection()
    gc: GcSection = GcSection()

    @model_validator(mode="after")
    def _fits(self) -> Config:
        ports = {"minio.port": self.minio.port, "minio.console_port": self.minio.console_port} if self.minio.mode == "local" else {}
        ports |= {"postgres.port": self.postgres.port} if self.postgres.mode == "local" else {}
        ports["mlflow.port"] = self.mlflow.port
        for port in set(ports.values()):
            users = [name for name, each in ports.items() if each == port]
            if len(users) > 1:
                raise ValueError(f"{' and '.join(users)} are both {port}")
        if self.minio.mode == "local" and self.minio.user == self.mlflow.user:
            raise ValueError(f"minio.user and mlflow.user are both {self.minio.user}: each service gets an account of its own")
        if self.postgres.mode == "local" and self.mlflow.auth.database == self.postgres.database:
            raise ValueError("mlflow.auth.database must differ from postgres.database: their migrations trip over each other (mlflow#18760)")
        if self.mlflow.artifacts != "proxied" and self.minio.mode == "local" and ipaddress.ip_address(self.minio.bind).is_loopback:
            raise ValueError(
                f'mlflow.artifacts = "{self.mlflow.artifacts}" sends clients to the store themselves: '
                "set minio.bind to an address they reach (0.0.0.0)"
            )
        return self
