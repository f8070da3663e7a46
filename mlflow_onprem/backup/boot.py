"""A backup restored into a disposable host, its stack started, and what it serves compared with what was backed up."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow_onprem_sandbox import Sandbox, prepare, product

from mlflow_onprem.backup import encryption, objects
from mlflow_onprem.backup.encryption import Keys
from mlflow_onprem.backup.manifest import Manifest, Proof, now
from mlflow_onprem.backup.objects import Entry
from mlflow_onprem.backup.repository import Repository
from mlflow_onprem.backup.transfer import INDEX, fetch
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.sandbox.command import Account, parse_account
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config, MinioSection
from mlflow_onprem.settings.facts import LOCKS
from mlflow_onprem.settings.topology import LocalStore
from mlflow_onprem.system.local_host import LocalHost

INSIDE = "/mnt/backup"
KEYS = "/root/backup-keys"
ARTIFACTS = 20
LARGEST = 256 << 20  # bytes of an artifact that is fetched
LEAD = "this backup is not proven: take another one, or look at `mlflow-onprem backup verify ID` and at the journal above"


@dataclass(frozen=True)
class Source:
    """How the disposable host comes to the backup: its address, and the files it needs with the options that name them."""

    address: str
    files: Mapping[str, str]


def boot(host: LocalHost, repository: Repository, manifest: Manifest, keys: Keys, source: Source, config: Config) -> Proof:
    """Restore in a sandbox on this machine and compare. The sandbox is thrown away, whatever comes.

    `config`: where its programs come from. Raises OnPremError where anything is not as it was backed up.
    """
    started = time.monotonic()
    with restored_host(host, manifest, source, config, f"verify-{manifest.id[-4:]}") as (sandbox, restored):
        host.say("comparing what it serves")
        runs, artifacts, artifact_bytes = compare(host, repository, manifest, keys, sandbox)
        tables, _ = _contents(host, repository, manifest, keys)
    return Proof(
        when=now(), seconds=round(time.monotonic() - started, 1), tables=tables, rows=restored["rows"], runs=runs, artifacts=artifacts,
        artifact_bytes=artifact_bytes,
    )  # fmt: skip


def compare(host: LocalHost, repository: Repository, manifest: Manifest, keys: Keys, sandbox: Sandbox) -> tuple[int, int, int]:
    """Whether a disposable host serves what was backed up; how many runs, artifacts and bytes of these were looked at. Raises OnPremError."""
    account = parse_account(sandbox.run(["mlflow-onprem", "client-env", "--shell", "dotenv"]).out)
    server = _Server(f"http://{sandbox.address}:5000", account)
    _, sample = _contents(host, repository, manifest, keys)
    chosen = _choose(host, repository, manifest)
    for entry in chosen:
        _compare_artifact(server, entry)
    return _compare_runs(server, sample), len(chosen), sum(entry.size for entry in chosen)


@contextmanager
def restored_host(
    host: LocalHost, manifest: Manifest, source: Source, config: Config, name: str, locks: Mapping[str, str] | None = None
) -> Iterator[tuple[Sandbox, dict[str, Any]]]:
    """A sandbox with the backup restored in it, and what restore said; thrown away at the end, whatever comes.

    `locks`: requirement sets by version of MLflow that this program does not carry.
    """
    root = product.checkout()
    layer = product.bootstrapped(prepare(manifest.codename, host=host, on_progress=host.say), root, host.say)
    show = () if source.address.startswith("s3://") else (f"--bind-ro={source.address}:{INSIDE}",)
    host.say("starting a disposable host")
    sandbox = Sandbox.start(name, layer, hostname="verify", nspawn=show, binds=product.caches())
    try:
        _provide(host, sandbox, config)
        for version, text in (locks or {}).items():
            sandbox.write(f"{LOCKS}/mlflow-{version}.txt", text)
        sandbox.write(product.CONFIG, _configuration(manifest, config))
        options = []
        for option, path in source.files.items():
            inside = f"{KEYS}/{option.strip('-')}"
            sandbox.write(inside, host.read(path) or b"", mode=0o600)
            options += [option, inside]
        place = source.address if source.address.startswith("s3://") else INSIDE
        host.say("restoring into it")
        answer = sandbox.follow(["mlflow-onprem", "restore", manifest.id, "--from", place, *options, "--json"], host.say, timeout=86400)
        yield sandbox, json.loads(answer.out)
    finally:
        sandbox.destroy()


def configuration(manifest: Manifest, config: Config, version: str) -> str:
    """The disposable host's configuration with another MLflow in it."""
    return _configuration(manifest.model_copy(update={"mlflow": version}), config)


class _Server:
    """The restored MLflow as a client sees it."""

    def __init__(self, url: str, account: Account) -> None:
        import requests

        self._url, self._session = url, requests.Session()
        self._session.trust_env = False
        if account.username:
            self._session.auth = (account.username, account.password.reveal())

    def run(self, run_id: str) -> dict[str, Any]:
        """A run's data. Raises OnPremError."""
        answer = self._session.get(f"{self._url}/api/2.0/mlflow/runs/get", params={"run_id": run_id}, timeout=60)
        if answer.status_code != 200:
            raise OnPremError(f"the restored stack does not know run {run_id} (HTTP {answer.status_code})", LEAD)
        found: dict[str, Any] = answer.json()["run"]["data"]
        return found

    def sha256(self, key: str) -> str:
        """Of an artifact, fetched as clients do. Raises OnPremError."""
        digest = hashlib.sha256()
        with self._session.get(f"{self._url}/api/2.0/mlflow-artifacts/artifacts/{quote(key)}", stream=True, timeout=60) as answer:
            if answer.status_code != 200:
                raise OnPremError(f"the restored stack does not serve artifact {key} (HTTP {answer.status_code})", LEAD)
            for chunk in answer.iter_content(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()


def _compare_runs(server: _Server, sample: Mapping[str, Any]) -> int:
    for run, wanted in sample["runs"].items():
        found = server.run(run)
        metrics = {each["key"]: each["value"] for each in found.get("metrics", [])}
        params = {each["key"]: each["value"] for each in found.get("params", [])}
        if any(metrics.get(key) != value for key, value in wanted["metrics"].items()):
            raise OnPremError(f"run {run} of the restored stack has other metrics than were backed up", LEAD)
        if params != wanted["params"]:
            raise OnPremError(f"run {run} of the restored stack has other parameters than were backed up", LEAD)
    return len(sample["runs"])


def _compare_artifact(server: _Server, entry: Entry) -> None:
    if server.sha256(entry.key) != entry.sha256:
        raise OnPremError(f"artifact {entry.key} of the restored stack is not byte for byte what was backed up", LEAD)


def _contents(host: LocalHost, repository: Repository, manifest: Manifest, keys: Keys) -> tuple[int, dict[str, Any]]:
    """How many tables there were, and the sample of runs with their values."""
    with _folder(host) as folder:
        header = (
            fetch(repository, manifest, encryption.IDENTITY, folder / encryption.IDENTITY).read_bytes()
            if encryption.IDENTITY in manifest.files
            else None
        )
        name = next(name for name in manifest.files if name.startswith("contents.json"))
        opened = encryption.Opener(manifest.encryption, keys, header).open(fetch(repository, manifest, name, folder / name))
        found = json.loads(opened.read_text())
    return sum(len(tables) for tables in found["tables"].values()), found["sample"]


def _choose(host: LocalHost, repository: Repository, manifest: Manifest) -> list[Entry]:
    """Some artifacts at random, every one as likely, without holding the list in memory."""
    chosen: list[Entry] = []
    with _folder(host) as folder:
        entries = objects.read_index(fetch(repository, manifest, INDEX, folder / "index"))
        wanted = (entry for entry in entries if entry.size <= LARGEST and not entry.key.endswith("/"))
        for count, entry in enumerate(wanted):
            if count < ARTIFACTS:
                chosen.append(entry)
            elif (place := random.randrange(count + 1)) < ARTIFACTS:  # noqa: S311  # a sample, not a secret
                chosen[place] = entry
    return chosen


def _configuration(manifest: Manifest, config: Config) -> str:
    """Everything at its default but what the data and the programs need."""
    store = config.minio if isinstance(topology.store(config.minio), LocalStore) else MinioSection()
    quoted = {"url": store.url, "sha256": store.sha256} if store.url else {"distribution": store.distribution}
    lines = ["[minio]", *(f"{key} = {json.dumps(value)}" for key, value in quoted.items()), f"bucket = {json.dumps(manifest.bucket)}"]
    lines += ["[postgres]", f"database = {json.dumps(manifest.databases['mlflow'])}"]
    lines += [
        "[mlflow]",
        f'version = "{manifest.mlflow}"',
        f'python = "{manifest.python}"',
        f"extra_packages = {json.dumps(config.mlflow.extra_packages)}",
    ]
    lines += ["[mlflow.auth]", f"enabled = {json.dumps('auth' in manifest.databases)}"]
    lines += [f"database = {json.dumps(manifest.databases['auth'])}"] if "auth" in manifest.databases else []
    return "\n".join(lines) + "\n"


def _provide(host: LocalHost, sandbox: Sandbox, config: Config) -> None:
    """Programs this machine has already: the disposable host need not fetch them again, and may not be able to."""
    url = (config.minio.url or "").removeprefix("file://")
    for path in [url] if url.startswith("/") else []:
        if host.stat(path) is not None:
            sandbox.push(Path(path), path)
    for folder in ("/opt/mlflow-onprem/object-store", "/opt/mlflow-onprem/environments"):
        if host.stat(folder) is not None:
            sandbox.run(["mkdir", "-p", folder])
            # Times are kept: an environment is known by its files' times and sizes.
            host.run(["cp", "-aT", folder, str(sandbox.path(folder))], timeout=1800)


@contextmanager
def _folder(host: LocalHost) -> Iterator[Path]:
    """A folder for a moment."""
    path = "/var/lib/mlflow-onprem/verify"
    host.mkdir(path, mode=0o700, owner="root", group="root")
    try:
        yield host.local(path)
    finally:
        host.remove(path)
