"""What the store is told about an artifact's content.

Never a `Content-Encoding`: it says that what is stored is another file, packed for the way. MLflow guesses one from the name, so
that a `.csv.gz` comes back unpacked, under its old name, to whoever fetches it by presigned URL. A packed file is a file.
"""

from __future__ import annotations

from mimetypes import guess_type

_PACKED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz", "compress": "application/x-compress"}


def stored_as(name: str) -> dict[str, str]:
    """boto3's arguments for an upload under this name."""
    content_type, packed = guess_type(name)
    if packed is not None:
        return {"ContentType": _PACKED.get(packed, "application/octet-stream")}
    return {"ContentType": content_type} if content_type else {}


def encoding_guessed(name: str) -> bool:
    """Whether MLflow's own code stores a `Content-Encoding` with a file of this name."""
    return guess_type(name)[1] is not None
