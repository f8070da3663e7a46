"""What a person must hear of an adoption."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterable

from mlflow_onprem.clients import store_disk
from mlflow_onprem.core.host import Host
from mlflow_onprem.resources import old_starts
from mlflow_onprem.resources.adoption import opens_everything
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.settings.topology import LocalPostgres, LocalStore
from mlflow_onprem.stack import postgres
from mlflow_onprem.stack.adoption_checks import Folder, Sources
from mlflow_onprem.system.hand_built import Ours

DEFAULTS = "/etc/default/minio"
PATIENCE = 60.0  # seconds for looking at the names of all artifacts


def starts(host: Host, ours: Ours, sources: Sources, folders: tuple[Folder, ...]) -> Iterable[str]:
    """What becomes of what started the old server, and of what it kept on the disk."""
    if units := [str(each) for each in old_starts.old_units(host, ours)]:
        yield f"{', '.join(units)}: stopped and disabled; what was written in the unit is in the folder above."
    if lines := [path for path, _ in old_starts.start_lines(host, ours)]:
        yield f"lines that started MLflow in {', '.join(lines)} are comments now; the files as they were are in the folder above."
    if sources.tracking:
        yield f"runs come from {sources.tracking} (SQLite) into PostgreSQL; that file stays as it is, and nothing writes to it any more."
    if sources.accounts:
        yield f"accounts and permissions come from {sources.accounts}, passwords included: {', '.join(sources.names) or 'none'}."
    for each in folders:
        yield f"artifacts in {each.path} are copied into the object store and compared; the folder stays, remove it when you like."


def warnings(host: Host, config: Config, facts: Facts, unit: str, foreign: list[str], others: tuple[str, ...]) -> Iterable[str]:
    """What is another way than before, for those who used it."""
    settings = unit + (host.read(DEFAULTS) or b"").decode(errors="replace")
    if unit and ("minioadmin" in settings or "MINIO_ROOT_USER" not in settings):
        yield "the object store ran with minioadmin:minioadmin; new passwords are in use now. Whoever used that account has to ask you for a key."
    if unit and re.search(r"^User=root|^(?!.*User=)", unit, re.MULTILINE):
        yield "the object store ran as root; it runs as minio now, and its data folder belongs to that account."
    hba = (host.read(postgres.cluster_of(facts).hba) or b"").decode(errors="replace")
    if any(opens_everything(line) for line in hba.splitlines()):
        kept = f"; what it gave to {', '.join(others)} is kept" if others else ""
        yield f"PostgreSQL let every account in from every address; that line of pg_hba.conf is a comment now{kept}."
    if others:
        yield f"PostgreSQL holds {', '.join(others)} too: it listens on the network as before, and its settings stay its owner's."
    elif isinstance(topology.postgres(config), LocalPostgres) and hba and not config.postgres.allowed_networks:
        yield "PostgreSQL is reached from this host alone now; [postgres] allowed_networks opens it to networks you name."
    yield from _hidden(host, config)
    if foreign:
        yield f"some experiments keep their artifacts in other buckets ({', '.join(foreign)}): they stay as they are, and clients need keys for them."
    if config.mlflow.auth.enabled:
        yield "MLflow asks for an account now: sudo mlflow-onprem client-env, and `user add` for everybody else."


def _hidden(host: Host, config: Config) -> Iterable[str]:
    """Files that no listing shows: whoever looks at the adopted stack would miss them, and think it was us."""
    until = time.monotonic() + PATIENCE
    try:
        folder = (
            store_disk.bucket_folder(host.local(config.minio.data_dir), config.minio.bucket)
            if isinstance(topology.store(config.minio), LocalStore)
            else None
        )
        keys = store_disk.keys(folder) if folder is not None else iter(())
        found = list(store_disk.overlaps(itertools.takewhile(lambda _: time.monotonic() < until, keys)))
    except OSError:
        return
    if found:
        hider, key = found[0]
        yield (
            f"{len(found)} artifacts are in no listing of the object store, because a file has the name of their folder ({key}, behind {hider}); "
            "they stay, and can be read by their names. `sudo mlflow-onprem doctor` lists them after the installation and says what to do."
        )
