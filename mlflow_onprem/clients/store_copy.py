"""A file of this host as an object, sent only where it has to be, and compared byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_onprem.core.errors import OnPremError

if TYPE_CHECKING:
    from minio import Minio


def bring(client: Minio, bucket: str, name: str, file: Path) -> None:
    """Make an object the content of a file: sent where it is missing or another, then compared. Raises OnPremError, and what the SDK raises."""
    if _same(client, bucket, name, file):
        return
    client.fput_object(bucket, name, str(file))
    if not _same(client, bucket, name, file):
        raise OnPremError(f"{file} arrived in the object store with other bytes", "does something still write to it? stop that, then run this again")


def _same(client: Minio, bucket: str, name: str, file: Path) -> bool:
    from minio.error import S3Error

    try:
        answer = client.get_object(bucket, name)
    except S3Error as failed:
        if failed.code in ("NoSuchKey", "NoSuchObject"):
            return False
        raise
    try:
        with file.open("rb") as content:
            return all(piece == content.read(len(piece)) for piece in answer.stream(1 << 20)) and not content.read(1)
    finally:
        answer.close()
        answer.release_conn()
