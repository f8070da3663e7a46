"""What a download is answered with: the status, the headers and the bytes to come, or MLflow's kind of error."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

# Private to MLflow: the type and the "attachment" that it sends files with. Nothing is ever shown inline.
from mlflow.server.handlers import _content_disposition_attachment
from mlflow.utils.mime_type_utils import _guess_mime_type

from .handover import StoredObject
from .ranges import CONDITIONS, Portion, portion
from .reading import Reading, StoreFailed

logger = logging.getLogger("mlflow_onprem.downloads")

_ABSENT = ("NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed", "KeyTooLongError", "XMinioInvalidObjectName", "XMinioInvalidResourceName")
_CHANGED = "PreconditionFailed"
# Starting, or more requests than it takes at once.
_BUSY = 503


@dataclass(frozen=True)
class Answer:
    """To be sent: `first` are the first bytes, `rest` has what follows them, if anything does."""

    status: int
    headers: dict[str, str]
    first: bytes = b""
    rest: Reading | None = None


def answer(found: StoredObject, method: str, headers: Mapping[str, str]) -> Answer:
    """Ask the store. `headers` are the client's, in lower case. Waits for the network; the first bytes have come when it returns."""
    try:
        return _answer(found, method, headers)
    except ClientError as error:
        return _refused(found, error)
    except (BotoCoreError, StoreFailed) as error:
        logger.error("a download failed: the object store did not answer (%s)", error)
        return _error(503, "TEMPORARILY_UNAVAILABLE", "The server's object store does not answer. On the server, `mlflow-onprem status` says more.")


def _answer(found: StoredObject, method: str, headers: Mapping[str, str]) -> Answer:
    if method == "GET" and not any(name in headers for name in CONDITIONS):
        return _send(found, found.client.get_object(**found.where), None)
    for attempt in (1, 2):
        about = found.client.head_object(**found.where)
        conditions = headers if method == "GET" else {name: value for name, value in headers.items() if name != "range"}
        part = portion(conditions, about["ContentLength"], about["ETag"], _modified(about))
        if method == "HEAD" or part.status in (304, 416) or not part.length:
            return Answer(part.status, _headers(found, about, part, about["ContentLength"]))
        try:
            got = found.client.get_object(**found.where, Range=f"bytes={part.start}-{part.stop - 1}", IfMatch=about["ETag"])
        except ClientError as error:
            # Another object has come under this name in between.
            if attempt == 1 and error.response["Error"]["Code"] == _CHANGED:
                continue
            raise
        return _send(found, {**got, "ContentLength": about["ContentLength"]}, part)
    raise AssertionError  # the second attempt returned or raised


def _send(found: StoredObject, got: dict[str, Any], part: Portion | None) -> Answer:
    size = got["ContentLength"]
    part = part or Portion(200, 0, size)
    reading = Reading(found.client, found.where, got["ETag"], part.start, part.stop, got["Body"])
    try:
        first = reading.read()
    except BaseException:
        reading.close()
        raise
    if len(first) == part.length:
        reading.close()
        return Answer(part.status, _headers(found, got, part, size), first)
    return Answer(part.status, _headers(found, got, part, size), first, reading)


def _headers(found: StoredObject, about: dict[str, Any], part: Portion, size: int) -> dict[str, str]:
    # A newline in a name must not end a header.
    name = "".join(letter if letter.isprintable() else "_" for letter in found.name)
    headers = {
        "content-type": _guess_mime_type(found.name),
        "content-disposition": _content_disposition_attachment(name),
        "x-content-type-options": "nosniff",
        "accept-ranges": "bytes",
        "etag": about["ETag"],
        "last-modified": _modified(about),
        # Kept by a browser, but asked for again each time: the account may have lost its right to it.
        "cache-control": "no-cache",
    }
    if part.status == 416:
        return {**headers, "content-range": f"bytes */{size}", "content-length": "0"}
    if part.status == 206:
        headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    return headers if part.status == 304 else {**headers, "content-length": str(part.length)}


def _modified(about: dict[str, Any]) -> str:
    stamp: str = about["ResponseMetadata"]["HTTPHeaders"].get("last-modified", "")
    return stamp


def _refused(found: StoredObject, error: ClientError) -> Answer:
    code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    if code in _ABSENT:
        message = f"There is no file {found.path!r}. If it is a folder: it is listed first, then its files are fetched one by one."
        return _error(404, "RESOURCE_DOES_NOT_EXIST", message)
    logger.error("a download failed: the object store answered %s (HTTP %s)", code, status)
    if status == _BUSY:
        return _error(503, "TEMPORARILY_UNAVAILABLE", f"The server's object store is busy or starting ({code}). Try again in a moment.")
    return _error(500, "INTERNAL_ERROR", f"The server's object store refuses ({code}). On the server, `mlflow-onprem doctor` says more.")


def _error(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"error_code": code, "message": message}).encode()
    return Answer(status, {"content-type": "application/json", "content-length": str(len(body))}, body)
