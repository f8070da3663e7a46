"""Where Python packages come from on this host: what pip.conf, uv.toml and the environment say about that counts, all else they say does not.

`user = true`, `target`, `no-binary` and the like break an environment of one's own. Run as a file by `bootstrap` (standard library only): it prints
what to export for pip, and with a dash what to unset.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
PIP_FILES = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf", "/root/.pip/pip.conf", "/root/.config/pip/pip.conf")
UV_FILES = ("/etc/uv/uv.toml", "/etc/xdg/uv/uv.toml", "/root/.config/uv/uv.toml")
#: Options of pip that say where packages come from and how to get there.
KEPT = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "client-cert", "proxy", "timeout", "default-timeout",
    "retries", "keyring-provider", "disable-pip-version-check",
)  # fmt: skip
_CERTIFICATES = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")

Read = Callable[[str], "bytes | None"]


def for_pip(read: Read, environ: Mapping[str, str]) -> dict[str, str]:
    """pip's environment: its files are not read, what they say of indexes, certificates and proxies is carried over, below its variables."""
    found: dict[str, str] = {}
    for path in (*PIP_FILES, *filter(None, [environ.get("PIP_CONFIG_FILE")])):
        found |= _pip_file((read(path) or b"").decode(errors="replace"))
    values = {f"PIP_{name.upper().replace('-', '_')}": value for name, value in found.items()}
    values = {name: environ.get(name) or value for name, value in values.items()}
    # pip's own list of authorities has no company's, and which pip reads the system's depends on who made it.
    if "PIP_CERT" not in values and not any(environ.get(name) for name in _CERTIFICATES) and read(AUTHORITIES):
        values["PIP_CERT"] = AUTHORITIES
    return {**values, "PIP_CONFIG_FILE": os.devnull}


def for_uv(read: Read, environ: Mapping[str, str], is_there: Callable[[str], bool] = os.path.isdir) -> dict[str, str]:
    """uv's environment likewise: its variables first, then what uv.toml says, then what holds for pip, which uv itself does not ask."""
    values: dict[str, str] = {}
    for path in (*UV_FILES, *filter(None, [environ.get("UV_CONFIG_FILE")])):
        values |= _uv_file((read(path) or b"").decode(errors="replace"))
    pip = {**for_pip(read, environ), **{name: value for name, value in environ.items() if name.startswith("PIP_") and value}}
    words = {name: value.split() for name, value in pip.items()}
    said = {*values, *(name for name, value in environ.items() if value)}
    translated: dict[str, str] = {}
    if not said & {"UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"}:
        if "PIP_INDEX_URL" in pip:
            translated["UV_DEFAULT_INDEX"] = pip["PIP_INDEX_URL"]
        if "PIP_EXTRA_INDEX_URL" in words:
            # As pip does: all indexes are equal. The digests in the lock say what is taken.
            translated |= {"UV_INDEX": " ".join(words["PIP_EXTRA_INDEX_URL"]), "UV_INDEX_STRATEGY": "unsafe-best-match"}
    if "PIP_FIND_LINKS" in words:
        # pip passes over a folder that is not there, uv stops at it.
        translated["UV_FIND_LINKS"] = ",".join(word for word in words["PIP_FIND_LINKS"] if not word.startswith("/") or is_there(word))
    if "PIP_TRUSTED_HOST" in words:
        translated["UV_INSECURE_HOST"] = " ".join(words["PIP_TRUSTED_HOST"])
    if pip.get("PIP_CERT", AUTHORITIES) != AUTHORITIES:
        translated["SSL_CERT_FILE"] = pip["PIP_CERT"]
    if "PIP_PROXY" in pip and not any(environ.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        translated |= {"https_proxy": pip["PIP_PROXY"], "http_proxy": pip["PIP_PROXY"]}
    values = {**translated, **values}
    return {**{name: value for name, value in values.items() if value and not environ.get(name)}, "UV_NO_CONFIG": "1"}


def _pip_file(text: str) -> dict[str, str]:
    """The options that count, of all commands and of `install`."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}  # pip itself would stop at it; a broken file must not stop us
    found = {}
    for section in ("global", "install"):
        for key, value in parser.items(section) if parser.has_section(section) else ():
            name = key.lower().replace("_", "-").removeprefix("--")
            if name in KEPT and value.strip():
                found[name] = " ".join(value.split())
    return found


def _uv_file(text: str) -> dict[str, str]:
    import importlib

    if not text.strip():
        return {}
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        table: dict[str, Any] = toml.loads(text)
    except ValueError:
        return {}
    merged = {**{key: value for key, value in table.get("pip", {}).items() if isinstance(table.get("pip"), dict)}, **table}
    indexes = [each for each in merged.get("index", []) if isinstance(each, dict) and each.get("url")]
    default = next((str(each["url"]) for each in indexes if each.get("default")), merged.get("index-url"))
    extra = [str(each["url"]) for each in indexes if not each.get("default")] + [str(each) for each in merged.get("extra-index-url", [])]
    values = {
        "UV_DEFAULT_INDEX": str(default or ""),
        "UV_INDEX": " ".join(extra),
        "UV_INDEX_STRATEGY": str(merged.get("index-strategy", "")),
        "UV_FIND_LINKS": ",".join(str(each) for each in merged.get("find-links", [])),
        "UV_INSECURE_HOST": " ".join(str(each) for each in merged.get("allow-insecure-host", [])),
        "UV_PYTHON_INSTALL_MIRROR": str(merged.get("python-install-mirror", "")),
    }
    return {name: value for name, value in values.items() if value}


def lines(read: Read, environ: Mapping[str, str]) -> list[str]:
    """What `bootstrap` does to its own environment before it calls pip."""
    values = for_pip(read, environ)
    kept = {f"PIP_{name.upper().replace('-', '_')}" for name in KEPT} | {"PIP_CONFIG_FILE", "PIP_CACHE_DIR", "PIP_NO_CACHE_DIR", "PIP_QUIET"}
    return [*(f"-{name}" for name in environ if name.startswith("PIP_") and name not in kept), *(f"{name}={value}" for name, value in values.items())]


def _of_this_machine(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


if __name__ == "__main__":
    sys.stdout.write("".join(f"{line}\n" for line in lines(_of_this_machine, os.environ)))
