"""Names of artifacts that MLflow's database holds: what must be in the bucket, whatever a listing of it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

Query = Callable[[str], Iterable[Any]]
_PROXY_PATH = "/api/2.0/mlflow-artifacts/artifacts/"
_FILES = (
    # What makes a folder a model; of models since MLflow 3, of registered ones.
    "SELECT artifact_location || '/MLmodel' FROM logged_models",
    "SELECT storage_location || '/MLmodel' FROM model_versions WHERE storage_location <> ''",
    "SELECT source || '/MLmodel' FROM model_versions WHERE source <> ''",
    "SELECT value || '/traces.json' FROM trace_tags WHERE key = 'mlflow.artifactLocation'",
)
_TAGS = (
    "SELECT artifact_uri, t.key, value FROM tags t JOIN runs USING (run_uuid) WHERE t.key IN ('mlflow.log-model.history', 'mlflow.loggedArtifacts')"
)


def keys(query: Query, bucket: str) -> list[str]:
    """Keys of files that the database names, in the order of a listing."""
    uris = [str(uri) for statement in _FILES for (uri,) in query(statement) if uri]
    uris += [uri for root, name, value in query(_TAGS) for uri in _of_tag(str(root), str(name), str(value))]
    return sorted({key for uri in uris if (key := key_of(uri, bucket)) is not None})


def key_of(uri: str, bucket: str) -> str | None:
    """The key that an artifact's address means; None where it is not in this bucket."""
    parts = urlsplit(uri)
    if parts.scheme == "mlflow-artifacts" or (parts.scheme == "s3" and parts.netloc == bucket):
        path = parts.path
    elif parts.scheme in ("http", "https") and parts.path.startswith(_PROXY_PATH):
        path = parts.path.removeprefix(_PROXY_PATH)
    else:
        return None
    return path.strip("/") or None


def _of_tag(root: str, name: str, value: str) -> Iterator[str]:
    """Addresses in a run's tag of MLflow; a client may have written anything there."""
    try:
        found = json.loads(value)
    except ValueError:
        return
    for each in found if isinstance(found, list) else []:
        path = each.get("path" if name == "mlflow.loggedArtifacts" else "artifact_path") if isinstance(each, dict) else None
        if isinstance(path, str):
            yield f"{root}/{path}" if name == "mlflow.loggedArtifacts" else f"{root}/{path}/MLmodel"
