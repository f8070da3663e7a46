"""What `bootstrap --bundle` unpacked: packages, wheels and programs for a host without a network."""

from __future__ import annotations

import hashlib
import json

from mlflow_onprem.core.host import Host

FOLDER = "/opt/mlflow-onprem/bundle"


def pip_options(host: Host, requirements: str) -> list[str]:
    """uv's options for these requirements, where the bundle holds exactly their wheels; none otherwise."""
    manifest = host.read(f"{FOLDER}/manifest.json")
    if manifest is None or hashlib.sha256(requirements.encode()).hexdigest() not in json.loads(manifest)["locks"]:
        return []
    return ["--offline", "--no-index", "--find-links", f"{FOLDER}/wheels"]


def program(host: Host, sha256: str) -> str | None:
    """The file with that digest, where the bundle holds it."""
    path = f"{FOLDER}/programs/{sha256}"
    return None if host.stat(path) is None else path


def other_store(host: Host) -> str:
    """A hint where the bundle holds a store, and the configuration asks for another one; empty without a bundle."""
    if not host.listdir(f"{FOLDER}/programs"):
        return ""
    return (
        "the bundle on this host holds another object store than the configuration asks for: "
        f"take [minio] of {FOLDER}/config.toml into /etc/mlflow-onprem/config.toml, or unpack a bundle made with this configuration"
    )


def apt_options(host: Host, packages: tuple[str, ...]) -> list[str]:
    """apt's options for reading nothing but the bundle, where it holds all of these packages; none otherwise."""
    index = host.read(f"{FOLDER}/debs/Packages")
    if index is None or not set(packages) <= {line.removeprefix("Package: ") for line in index.decode().splitlines() if line.startswith("Package: ")}:
        return []
    settings = {
        "Dir::Etc::sourcelist": f"{FOLDER}/apt.list",
        "Dir::Etc::sourceparts": "/dev/null",
        # Its own lists: what the host's apt knows of its mirrors stays as it is.
        "Dir::State::lists": f"{FOLDER}/lists",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
