"""`bundle create`: one file with all that a host without a network needs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow_onprem_sandbox import keyrings, machine, product

from mlflow_onprem.core.errors import CommandFailed, ConfigError, OnPremError
from mlflow_onprem.resources.binary import Build
from mlflow_onprem.settings import facts, topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.topology import ExternalStore, LocalPostgres
from mlflow_onprem.stack import minio, mlflow_release
from mlflow_onprem.system import bundle, minio_source
from mlflow_onprem.system.download import fetch
from mlflow_onprem.system.fetching import run as fetch_by
from mlflow_onprem.system.hashing import sha256_of
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.system.package_data import names, read

#: Python of each distribution release, and the glibc its wheels may ask for (2.N).
PYTHONS = {"jammy": "3.10", "noble": "3.12", "bookworm": "3.11", "trixie": "3.13"}
GLIBC = {"jammy": 35, "noble": 39, "bookworm": 36, "trixie": 41}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
SCHEMA = 1

Say = Callable[[str], None]


@dataclass(frozen=True)
class Bundle:
    """What was written. `size` is in bytes."""

    path: str
    release: str
    architecture: str
    size: int
    packages: int
    wheels: int
    seconds: float


def create(host: LocalHost, config: Config, target: Path, release: str, architecture: str, say: Say) -> Bundle:
    """Fetch everything for that release and architecture into one tar.

    Raises ConfigError for a release or Python that does not fit, OnPremError where something cannot be fetched.
    """
    if release not in PYTHONS:
        raise ConfigError(f"there is no bundle for {release}", f"choose one of {', '.join(PYTHONS)}")
    python = PYTHONS[release]
    if config.mlflow.python not in ("auto", python):
        raise ConfigError(
            f"mlflow.python is {config.mlflow.python}, and {release} has Python {python}: without a network there is no other",
            f'set python = "{python}" in [mlflow], here and on that host',
        )
    if config.mlflow.extra_packages:
        raise ConfigError(
            "mlflow.extra_packages are chosen by the index at install, and without a network there is none",
            "put them into a lock of your own, which a bundle carries (docs/operations-upgrade.md), and leave extra_packages empty",
        )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mlflow-onprem-bundle-", dir=target.parent) as folder:
        root = Path(folder) / "bundle"
        root.mkdir()
        _checkout(root, say)
        packages = _packages(host, config, root, release, architecture, say)
        own = facts.own_locks(host)
        locks = {"cli": read("locks/cli.txt"), "mlflow": mlflow_release.lock(config.mlflow.version, own)}
        _wheels(host, root, locks, python, release, architecture, say)
        _store(host, config, root, architecture, say)
        _settings(config, root, dict(own).get(config.mlflow.version))
        wheels = len(list((root / "wheels").iterdir()))
        _manifest(root, release, architecture, python, locks)
        partial = Path(folder) / "bundle.tar"
        say("writing the file")
        with tarfile.open(partial, "w") as tar:
            for path in sorted(root.iterdir()):
                tar.add(path, path.name, filter=_root_owned)
        partial.replace(target)
    return Bundle(str(target), release, architecture, target.stat().st_size, packages, wheels, time.monotonic() - began)


def _root_owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    return info


def _checkout(root: Path, say: Say) -> None:
    say("the command itself")
    source = product.checkout()
    (root / "checkout").mkdir()
    for part in product.PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, root / "checkout" / part, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy2(source / part, root / "checkout" / part)
    shutil.copy2(source / "bootstrap", root / "bootstrap")


def _packages(host: LocalHost, config: Config, root: Path, release: str, architecture: str, say: Say) -> int:
    """What a plain host of that release would fetch, all dependencies included: apt is told that nothing is installed."""
    wanted = ["python3", "python3-venv"]
    if isinstance(topology.postgres(config), LocalPostgres):
        wanted.append(f"postgresql-{config.postgres.version or facts.DISTRIBUTION_POSTGRES[release]}")
    say(f"packages of {release}: {', '.join(wanted)}")
    lines = machine.apt_lines(machine.read_sources(host), release, os.environ.get("MLFLOW_ONPREM_SANDBOX_MIRROR"))
    if not lines:
        raise OnPremError(
            f"apt of this machine knows no archive of {release}",
            "name a mirror that this machine reaches: MLFLOW_ONPREM_SANDBOX_MIRROR=http://... (or run this on a machine of that distribution)",
        )
    keyring = keyrings.ensure(host, machine.family(release), root, lines)
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        apt = Path(folder)
        for name in ("lists/partial", "archives/partial", "state", "etc"):
            (apt / name).mkdir(parents=True)
        (apt / "state/status").touch()
        (apt / "etc/sources.list").write_text("".join(f"{line.replace('deb ', f'deb [signed-by={keyring}] ', 1)}\n" for line in lines))
        settings = {
            "Dir::Etc::sourcelist": f"{apt}/etc/sources.list", "Dir::Etc::sourceparts": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": f"{apt}/state", "Dir::State::status": f"{apt}/state/status", "Dir::State::lists": f"{apt}/lists",
            "Dir::Cache": f"{apt}", "Dir::Cache::archives": f"{apt}/archives", "APT::Architecture": architecture, "APT::Architectures": architecture,
            "APT::Sandbox::User": "root", "Debug::NoLocking": "true",
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        hint = "see what apt says above"
        servers = [server for line in lines if (server := urlsplit(line.split()[1]).hostname)]
        fetch_by(host, ["apt-get", "-q", *options, "update"], hint=hint, names=servers)
        fetch_by(host, ["apt-get", "-q", "-y", *options, "install", "--download-only", "--no-install-recommends", *wanted], hint=hint, names=servers)
        (root / "debs").mkdir()
        found = sorted((apt / "archives").glob("*.deb"))
        for path in found:
            shutil.move(path, root / "debs" / path.name)
    stanzas = [_stanza(host, root / "debs" / path.name) for path in found]
    (root / "debs/Packages").write_text("\n".join(stanzas))
    return len(found)


def _stanza(host: LocalHost, path: Path) -> str:
    """One package in the form of an archive's index."""
    control = host.run(["dpkg-deb", "--field", str(path)]).out.strip()
    return f"{control}\nFilename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {sha256_of(path)}\n"


def _wheels(host: LocalHost, root: Path, locks: dict[str, str], python: str, release: str, architecture: str, say: Say) -> None:
    from uv import find_uv_bin

    cpu = MACHINES[architecture]
    tags = [*(f"manylinux_2_{minor}" for minor in range(5, GLIBC[release] + 1)), "manylinux1", "manylinux2010", "manylinux2014", "linux"]
    platforms = [word for tag in tags for word in ("--platform", f"{tag}_{cpu}")]
    for name, text in locks.items():
        say(f"wheels of {name}")
        lock, flat = root.parent / f"{name}.txt", root.parent / f"{name}-flat.txt"
        lock.write_text(text)
        # The lock is for every Python and system; uv leaves what this one takes, so that pip need not judge by the Python it runs on.
        resolve = [find_uv_bin(), "pip", "compile", "--quiet", "--no-deps", "--generate-hashes", "--no-header", "--no-annotate"]
        fetch_by(
            host,
            [*resolve, "--python-version", python, "--python-platform", f"{cpu}-unknown-linux-gnu", str(lock), "--output-file", str(flat)],
            timeout=600,
        )
        argv = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--require-hashes",
        ]
        argv += [
            "--python-version",
            python,
            "--implementation",
            "cp",
            "--abi",
            f"cp{python.replace('.', '')}",
            "--abi",
            "abi3",
            "--abi",
            "none",
            *platforms,
        ]
        try:
            fetch_by(host, [*argv, "--dest", str(root / "wheels"), "-r", str(flat)], timeout=3600)
        except CommandFailed as failed:
            hint = "; ".join(filter(None, (failed.hint, "pip's own settings count: PIP_INDEX_URL for a mirror")))
            raise OnPremError(f"the wheels of {name} could not be fetched: {failed.message}", hint, failed.output) from failed


def _store(host: LocalHost, config: Config, root: Path, architecture: str, say: Say) -> None:
    if isinstance(topology.store(config.minio), ExternalStore):
        return
    (root / "programs").mkdir()
    host_facts = facts.Facts(architecture, "", (), 1, 0, "", 0, False)
    source = minio.source(config.minio, host_facts)
    say(f"object store: {source.version}")
    if isinstance(source, Build):
        if architecture != facts.ARCHITECTURES.get(os.uname().machine):
            raise ConfigError("an object store from source is built for this machine's own architecture", 'choose distribution = "silo" or "minio"')
        minio_source.build(host, str(root / "programs" / f"minio-{source.module_version}"), version=source.module_version)
    else:
        fetch(source.url, root / "programs" / source.sha256, source.sha256, lambda *_: None)


def _settings(config: Config, root: Path, own_lock: str | None) -> None:
    """What the other host has to be told to use what is in here; `bootstrap` puts it into place where there is no configuration yet."""
    text = carried(config)
    if text:
        (root / "config.toml").write_text(text)
    if own_lock is not None and f"mlflow-{config.mlflow.version}.txt" not in names("locks", "mlflow-*.txt"):
        (root / "own-locks").mkdir()
        (root / "own-locks" / f"mlflow-{config.mlflow.version}.txt").write_text(own_lock)


def carried(config: Config) -> str:
    """The settings that say what a bundle holds, as a configuration file; empty where all are at their defaults.

    What belongs to a host (addresses, folders, accounts) stays with it. The store is known by its sha256, so its address is the bundle's own file.
    """
    store = {"url": f"file://{bundle.FOLDER}/programs/{config.minio.sha256}", "sha256": config.minio.sha256} if config.minio.url else {}
    wanted: dict[str, dict[str, Any]] = {
        "minio": store or {"distribution": config.minio.distribution},
        "postgres": {"version": config.postgres.version},
        "mlflow": {"version": config.mlflow.version, "python": config.mlflow.python},
    }
    default = Config()
    lines = []
    for section, values in wanted.items():
        mine = {key: value for key, value in values.items() if value != getattr(getattr(default, section), key)}
        if mine and not (section == "minio" and isinstance(topology.store(config.minio), ExternalStore)):
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in mine.items()), ""]
    return "\n".join(["# What the bundle was made for. Every other setting is at its default.", "", *lines]) if lines else ""


def _manifest(root: Path, release: str, architecture: str, python: str, locks: dict[str, str]) -> None:
    (root / "release").write_text(f"{release} {architecture}\n")
    (root / "apt.list").write_text("deb [trusted=yes] file:/opt/mlflow-onprem/bundle/debs ./\n")
    files = {str(path.relative_to(root)): sha256_of(path) for path in sorted(root.rglob("*")) if path.is_file()}
    record = {
        "schema": SCHEMA, "release": release, "architecture": architecture, "python": python,
        "locks": [hashlib.sha256(text.encode()).hexdigest() for text in locks.values()], "files": files,
    }  # fmt: skip
    (root / "manifest.json").write_text(json.dumps(record, indent=1) + "\n")
    files["manifest.json"] = sha256_of(root / "manifest.json")
    (root / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in files.items()))
