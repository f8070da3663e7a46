"""`python -m mlflow_onprem_server.purge`: what users deleted leaves the database and the bucket for good.

`mlflow gc` for this stack. It uses the same functions of MLflow's store, but reaches artifacts in the bucket itself: no request goes
through the server, no account is needed, and bytes are counted. One item after another: its objects first, its rows last, so that whatever
interrupts it the next run goes on. Standard input: {"older_than_ms": N, "dry_run": bool}. Standard output: one JSON object a line and item.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from . import environment
from .purge_bucket import Bucket
from .settings import Settings, SettingsError, read

if TYPE_CHECKING:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

_ARTIFACT_LOCATION = "mlflow.artifactLocation"


@dataclass(frozen=True)
class Outcome:
    """One item. `result` is removed (with --dry-run: it would be), kept (`why` says what still needs it) or failed; `bytes` left the bucket."""

    kind: str
    id: str
    result: str
    objects: int = 0
    bytes: int = 0
    why: str = ""


class Purge:
    """One pass over everything that was deleted at least `older_than` milliseconds ago."""

    def __init__(self, store: SqlAlchemyStore, bucket: Bucket, older_than: int, dry_run: bool) -> None:
        self._store, self._bucket, self._older_than, self._dry_run = store, bucket, older_than, dry_run
        self._used = _used_by_models(store)
        self._kept: set[str] = set()

    def __iter__(self) -> Iterator[Outcome]:
        experiments = self._old_experiments()
        runs = {*self._store._get_deleted_runs(older_than=self._older_than), *self._in(experiments, "runs", "run_uuid")}
        yield from self._each("run", sorted(runs), "runs", "run_uuid", "artifact_uri", self._store._hard_delete_run)
        models = {*self._store._get_deleted_logged_models(older_than=self._older_than), *self._in(experiments, "logged_models", "model_id")}
        yield from self._each("logged model", sorted(models), "logged_models", "model_id", "artifact_location", self._store._hard_delete_logged_model)
        for each in experiments:
            yield self._safely("experiment", each, partial(self._experiment, each))

    def _each(self, kind: str, ids: list[str], table: str, key: str, place: str, forget: Any) -> Iterator[Outcome]:
        for each in ids:
            outcome = self._safely(kind, each, partial(self._item, kind, each, table, key, place, forget))
            if outcome.result != "removed":
                self._kept.add(each)
            yield outcome

    def _safely(self, kind: str, item: str, work: Callable[[], Outcome]) -> Outcome:
        try:
            return work()
        except Exception as failed:  # one that cannot be removed must not keep the others
            message = str(getattr(failed, "orig", None) or failed).strip().splitlines()
            return Outcome(kind, item, "failed", why=message[0] if message else type(failed).__name__)

    def _item(self, kind: str, item: str, table: str, key: str, place: str, forget: Any) -> Outcome:
        # Looked up now, not when the list was made: somebody may have restored it meanwhile.
        query = f"SELECT t.{place}, t.lifecycle_stage, e.lifecycle_stage FROM {table} t JOIN experiments e USING (experiment_id) WHERE t.{key} = :id"  # noqa: S608  # names of this file
        row = self._rows(query, id=item)
        if not row or "deleted" not in row[0][1:]:
            return Outcome(kind, item, "kept", why="it was restored, or removed by somebody else, meanwhile")
        uri = row[0][0] or ""
        user = self._used_by(item, uri)
        if user:
            return Outcome(kind, item, "kept", why=f"registered model {user} uses its artifacts")
        prefix = self._bucket.key(uri)
        if prefix is None:
            return Outcome(kind, item, "kept", why=f"its artifacts are not in this stack's bucket: {uri}")
        count, size = self._clear(prefix)
        if not self._dry_run:
            forget(item)
        return Outcome(kind, item, "removed", count, size)

    def _experiment(self, experiment: str) -> Outcome:
        """What is left of it when its runs and models are gone: its traces, whatever else is in its own folder, its rows."""
        content = self._in([experiment], "runs", "run_uuid") + self._in([experiment], "logged_models", "model_id")
        left = self._kept.intersection(content) if self._dry_run else content
        if left:
            return Outcome("experiment", experiment, "kept", why=f"{len(left)} of its runs and models were kept")
        if not self._is_deleted(experiment):
            return Outcome("experiment", experiment, "kept", why="it was restored, or removed by somebody else, meanwhile")
        count = size = 0
        for prefix in self._folders(experiment):
            found = self._clear(prefix)
            count, size = count + found[0], size + found[1]
        if not self._dry_run:
            self._store._hard_delete_experiment(experiment)
        return Outcome("experiment", experiment, "removed", count, size)

    def _folders(self, experiment: str) -> list[str]:
        traces = self._rows(
            "SELECT g.value FROM trace_tags g JOIN trace_info i USING (request_id) WHERE i.experiment_id = :id AND g.key = :key",
            id=int(experiment),
            key=_ARTIFACT_LOCATION,
        )
        found = [prefix for (uri,) in traces if uri and (prefix := self._bucket.key(uri)) and f"/{prefix}".count("/traces/")]
        location = self._rows("SELECT artifact_location FROM experiments WHERE experiment_id = :id", id=int(experiment))[0][0] or ""
        # The whole folder only where MLflow itself named it after the experiment: one that a user chose may be shared.
        own = self._bucket.key(location)
        if self._dry_run or own != f"{experiment}/":
            return found
        return [own]

    def _clear(self, prefix: str) -> tuple[int, int]:
        return self._bucket.measure(prefix) if self._dry_run else self._bucket.empty(prefix)

    def _old_experiments(self) -> list[str]:
        from mlflow.utils.time import get_current_time_millis

        rows = self._rows(
            "SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'deleted' AND coalesce(last_update_time, 0) <= :before ORDER BY 1",
            before=get_current_time_millis() - self._older_than,
        )
        return [str(number) for (number,) in rows]

    def _is_deleted(self, experiment: str) -> bool:
        return bool(self._rows("SELECT 1 FROM experiments WHERE experiment_id = :id AND lifecycle_stage = 'deleted'", id=int(experiment)))

    def _in(self, experiments: list[str], table: str, key: str) -> list[str]:
        query = f"SELECT {key} FROM {table} WHERE experiment_id = :id"  # noqa: S608  # names of this file
        return [str(row[0]) for each in experiments for row in self._rows(query, id=int(each))]

    def _used_by(self, item: str, uri: str) -> str | None:
        for source, user in self._used:
            if source.startswith((f"runs:/{item}/", f"{uri.rstrip('/')}/")) or source in (f"models:/{item}", uri):
                return user
        return None

    def _rows(self, statement: str, **values: Any) -> list[Any]:
        return _rows(self._store, statement, **values)


def _used_by_models(store: SqlAlchemyStore) -> list[tuple[str, str]]:
    """Where the versions of registered models have their files, and whose they are. MLflow's own gc does not look."""
    rows = _rows(store, "SELECT name, version, source, storage_location FROM model_versions WHERE current_stage <> 'Deleted_Internal'")
    return [(place, f"{name} version {version}") for name, version, *places in rows for place in places if place]


def _rows(store: SqlAlchemyStore, statement: str, **values: Any) -> list[Any]:
    from sqlalchemy import text

    with store.engine.connect() as connection:
        return list(connection.execute(text(statement), values))


def open_purge(settings: Settings, older_than: int, dry_run: bool) -> Purge:
    """Connect to the database and the bucket of this service."""
    environment.apply_public(settings)
    logging.disable(logging.WARNING)

    from mlflow.store.artifact.s3_artifact_repo import _get_s3_client
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(settings.database_uri, environment.default_artifact_root(settings))
    return Purge(store, Bucket(_get_s3_client(), settings.bucket), older_than, dry_run)


def main() -> int:
    """Returns the exit status: 0 also where single items failed, they are in the answer."""
    request = json.load(sys.stdin)
    try:
        for outcome in open_purge(read(os.environ), int(request["older_than_ms"]), bool(request["dry_run"])):
            # Nobody reads on where the command above was killed: that ends this process, too.
            print(json.dumps(asdict(outcome)), flush=True)
    except BrokenPipeError:
        os._exit(1)
    except SettingsError as error:
        print(f"mlflow_onprem_server.purge: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # one line for the operator, whatever MLflow, SQLAlchemy or boto3 raised
        message = str(getattr(error, "orig", None) or error).strip().splitlines()
        print(f"mlflow_onprem_server.purge: {type(error).__name__}: {message[0] if message else ''}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
