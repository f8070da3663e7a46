"""Fetching one file over HTTP: checked before it has its final name, nothing half-written left behind."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.system import network
from mlflow_onprem.system.local_host import LocalHost

CONNECT_TIMEOUT, READ_TIMEOUT = 15.0, 60.0  # seconds
TRIES = 3
CHUNK = 1 << 20
LEADS_ON = (
    "alternatives, in [minio] of /etc/mlflow-onprem/config.toml: `url` and `sha256` of a mirror you can reach or of a file copied here "
    '(url = "/path/to/file"), or `distribution = "source"` (built from the Go module proxy); '
    "behind a company proxy set https_proxy; a company's authority counts once `update-ca-certificates` knows it, or with REQUESTS_CA_BUNDLE"
)


def fetch(url: str, target: Path, sha256: str, progress: Callable[[int, int], None]) -> None:
    """Put the file at `url` (http(s)://, file:// or a path) to `target`, if its sha256 is the one given.

    Raises OnPremError with what to set instead: for an HTTP status, a web page in place of a file, a short body, a wrong sum, a full disk.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            digest = _into(partial, url, progress)
        except Cut:
            digest = _into(partial, url, progress)
        if digest != sha256.lower():
            raise OnPremError(
                f"{url} is not the file it should be: its sha256 is {digest}, not {sha256}",
                f"never run it; if you expected another version, set its `sha256`. {LEADS_ON}",
            )
        partial.replace(target)
    except OSError as failed:
        raise OnPremError(f"{target} could not be written: {failed.strerror}", "free some space, then run the same command again") from failed
    finally:
        partial.unlink(missing_ok=True)


class Cut(OnPremError):
    """A download that broke off, or stood still, on its way."""


def _into(partial: Path, url: str, progress: Callable[[int, int], None]) -> str:
    """Write the whole file and return its sha256. Raises Cut where it breaks off."""
    digest = hashlib.sha256()
    with partial.open("wb") as file:
        for chunk in _chunks(url, progress):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def probe(url: str) -> None:
    """Ask for the first bytes only; raises OnPremError where `fetch` would fail for a reason that shows at once."""
    for _ in _chunks(url, lambda *_: None, only_first=True):
        return


def not_reached(url: str) -> str:
    """Why that address gives no file here, in a few words; empty where it does. One short try."""
    import requests

    try:
        status = requests.head(url, allow_redirects=True, timeout=(5, 10), **_means(url)).status_code
    except requests.RequestException as failed:
        return _cause(failed)[0]
    return "" if status == 200 else f"{url} answers HTTP {status}"


def _means(url: str) -> dict[str, Any]:
    """How to reach an address: the system's proxy where the caller has none, and every authority that the system trusts."""
    import requests

    found = network.inherited(LocalHost())
    direct = not found or requests.utils.should_bypass_proxies(url, found.get("no_proxy"))
    proxies = {} if direct else {name.removesuffix("_proxy"): value for name, value in found.items() if name != "no_proxy"}
    named = next((os.environ[name] for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE") if os.environ.get(name)), None)
    return {"proxies": proxies, "verify": named or (network.AUTHORITIES if Path(network.AUTHORITIES).exists() else True)}


def _cause(failed: Exception) -> tuple[str, str]:
    """What went wrong in plain words, and the hint: the way out, where this host says how to reach the network."""
    cause = network.explain(str(failed))
    rows = network.settings(LocalHost()) if cause else []
    return (cause.what, "; ".join((cause.hint, LEADS_ON, *rows))) if cause else (_reason(failed), LEADS_ON)


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
            with requests.get(url, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT), **_means(url)) as answer:
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
                    raise Cut(f"{url} ended early: {done} of {total} bytes came", f"run the same command again; {LEADS_ON}")
            return
        except requests.ConnectionError as failed:
            # Once bytes were handed on there is no going back to the start within this stream.
            if done or attempt == TRIES - 1:
                raise _failure(url, done, "reached", failed) from failed
        except requests.RequestException as failed:
            raise _failure(url, done, "fetched", failed) from failed


def _failure(url: str, done: int, verb: str, failed: Exception) -> OnPremError:
    why, hint = _cause(failed)
    return Cut(f"{url} ended early after {done} bytes: {why}", hint) if done else OnPremError(f"{url} cannot be {verb}: {why}", hint)


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
