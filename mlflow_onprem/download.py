"""Fetching one file over HTTP: checked before it has its final name, nothing half-written left behind."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mlflow_onprem.errors import OnPremError

CONNECT_TIMEOUT, READ_TIMEOUT = 15.0, 60.0  # seconds
TRIES = 3
CHUNK = 1 << 20
LEADS_ON = (
    "settings that lead on, in [minio] of /etc/mlflow-onprem/config.toml: `url` and `sha256` of a mirror you can reach or of a file copied here "
    '(url = "/path/to/file"), or `distribution = "source"` (built from the Go module proxy); behind a company proxy set https_proxy, and '
    "REQUESTS_CA_BUNDLE to its CA file"
)


def fetch(url: str, target: Path, sha256: str, progress: Callable[[int, int], None]) -> None:
    """Put the file at `url` (http(s)://, file:// or a path) to `target`, if its sha256 is the one given.

    Raises OnPremError with what to set instead: for an HTTP status, a web page in place of a file, a short body, a wrong sum, a full disk.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        digest = hashlib.sha256()
        with partial.open("wb") as file:
            for chunk in _chunks(url, progress):
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256.lower():
            raise OnPremError(
                f"{url} is not the file it should be: its sha256 is {digest.hexdigest()}, not {sha256}",
                f"never run it; if you expected another version, set its `sha256`. {LEADS_ON}",
            )
        partial.replace(target)
    except OSError as failed:
        raise OnPremError(f"{target} could not be written: {failed.strerror}", "free some space, then run the same command again") from failed
    finally:
        partial.unlink(missing_ok=True)


def probe(url: str) -> None:
    """Ask for the first bytes only; raises OnPremError where `fetch` would fail for a reason that shows at once."""
    for _ in _chunks(url, lambda *_: None, only_first=True):
        return


def local_path(url: str) -> Path | None:
    """The path of a file:// address or a plain path, None for http(s)."""
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    return None if url.startswith(("http://", "https://")) else Path(url)


def _chunks(url: str, progress: Callable[[int, int], None], *, only_first: bool = False) -> Iterator[bytes]:
    path = local_path(url)
    if path is not None:
        yield from _file_chunks(path, progress)
        return
    import requests

    for attempt in range(TRIES):
        done = 0
        try:
            with requests.get(url, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as answer:
                _check(url, answer.status_code, answer.headers.get("Content-Type", ""))
                total = int(answer.headers.get("Content-Length", 0))
                for chunk in answer.iter_content(CHUNK):
                    if done == 0:
                        _check_magic(url, chunk)
                    done += len(chunk)
                    progress(done, total)
                    yield chunk
                    if only_first:
                        return
                if total and done < total:
                    raise OnPremError(f"{url} ended early: {done} of {total} bytes came", f"run the same command again; {LEADS_ON}")
            return
        except requests.ConnectionError as failed:
            # Once bytes were handed on there is no going back to the start within this stream.
            if done or attempt == TRIES - 1:
                what = f"{url} ended early after {done} bytes" if done else f"{url} cannot be reached"
                raise OnPremError(f"{what}: {_reason(failed)}", LEADS_ON) from failed
        except requests.RequestException as failed:
            what = f"{url} ended early after {done} bytes" if done else f"{url} cannot be fetched"
            raise OnPremError(f"{what}: {_reason(failed)}", LEADS_ON) from failed


def _file_chunks(path: Path, progress: Callable[[int, int], None]) -> Iterator[bytes]:
    try:
        total, done = path.stat().st_size, 0
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                done += len(chunk)
                progress(done, total)
                yield chunk
    except OSError as failed:
        raise OnPremError(f"{path} cannot be read: {failed.strerror}", "check `url` in [minio] of the configuration") from failed


def _check(url: str, status: int, content_type: str) -> None:
    reasons = {
        403: "access is refused (a company proxy often answers so)",
        404: "there is no such file",
        407: "the proxy wants a login",
        410: "the file was taken away for good",
    }
    if status != 200:
        raise OnPremError(f"{url} answers HTTP {status}: {reasons.get(status, 'that is not a download')}", LEADS_ON)
    if content_type.startswith("text/html"):
        raise OnPremError(f"{url} answers with a web page instead of a file (a login page of a proxy?)", LEADS_ON)


def _check_magic(url: str, chunk: bytes) -> None:
    if chunk.lstrip()[:1] == b"<":
        raise OnPremError(f"{url} answers with a web page instead of a file (a login page of a proxy?)", LEADS_ON)


def _reason(failed: Exception) -> str:
    """The innermost cause in one line: requests nests several."""
    cause: BaseException = failed
    while cause.args and isinstance(cause.args[0], BaseException):
        cause = cause.args[0]
    inner = getattr(cause, "reason", None)
    text = str(inner if inner is not None else cause)
    return text.rsplit(">: ", maxsplit=1)[-1].strip() or type(cause).__name__
