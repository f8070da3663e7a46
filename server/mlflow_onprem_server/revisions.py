"""Which schema revision a database has and which one this MLflow wants, without importing MLflow.

Importing MLflow and Alembic takes seconds; the migration scripts are plain files that name their
own and their parent's revision.
"""

from __future__ import annotations

import configparser
import re
import sqlite3
from importlib.util import find_spec
from pathlib import Path

from .settings import SettingsError

_ASSIGNMENT = re.compile(r"^(revision|down_revision)\s*(?::[^=]+)?=\s*(.+)$", re.MULTILINE)
_QUOTED = re.compile(r"[\"']([0-9a-f]+)[\"']")

TRACKING = ("store/db_migrations/versions", "alembic_version")
AUTH = ("server/auth/db/migrations/versions", "alembic_version_auth")


def head(folder: Path) -> str:
    """Return the one revision in `folder` that no other one follows."""
    parents = _parents(folder)
    heads = set(parents) - set().union(*parents.values())
    if len(heads) != 1:
        raise SettingsError(f"{folder} has {len(heads)} newest revisions; this MLflow installation is damaged")
    return heads.pop()


def steps(folder: Path) -> list[str]:
    """Return all revisions up to the newest, oldest first; MLflow's chains have no branches."""
    parents = _parents(folder)
    found: list[str] = []
    waiting = [head(folder)]
    while waiting:
        revision = waiting.pop()
        if revision in parents and revision not in found:
            found.append(revision)
            waiting += sorted(parents[revision])
    return found[::-1]


def _parents(folder: Path) -> dict[str, set[str]]:
    """Return every revision in `folder` with those it follows."""
    found: dict[str, set[str]] = {}
    for script in folder.glob("*.py"):
        names = {name: _QUOTED.findall(value) for name, value in _ASSIGNMENT.findall(script.read_text(encoding="utf-8"))}
        for revision in names.get("revision", []):
            found[revision] = set(names.get("down_revision", []))
    return found


def current(database_uri: str, table: str) -> str | None:
    """Return the revision that `table` of the database names; None before the first migration."""
    if database_uri.startswith("sqlite:///"):
        return _sqlite_current(database_uri.removeprefix("sqlite:///"), table)
    import psycopg

    # SQLAlchemy's URI names its driver; without it, it is libpq's own form.
    plain = re.sub(r"^(postgresql|postgres)\+\w+:", "postgresql:", database_uri)
    try:
        with psycopg.connect(plain, connect_timeout=10) as connection:
            # psycopg wants its queries to be literals; the table is one of two constants above.
            found = connection.execute("SELECT to_regclass(%s)", (table,)).fetchone()
            if not found or found[0] is None:
                return None
            query = psycopg.sql.SQL("SELECT version_num FROM {}").format(psycopg.sql.Identifier(table))
            row = connection.execute(query).fetchone()
    except psycopg.OperationalError as error:
        raise SettingsError(f"cannot connect to the database: {str(error).strip()}") from None
    return str(row[0]) if row else None


def _sqlite_current(path: str, table: str) -> str | None:
    if not Path(path).exists():
        return None
    connection = sqlite3.connect(path)
    try:
        row = connection.execute(f"SELECT version_num FROM {table}").fetchone()  # noqa: S608 - one of two constants
    except sqlite3.OperationalError:
        return None
    finally:
        connection.close()
    return str(row[0]) if row else None


def state(database_uri: str, where: tuple[str, str]) -> dict[str, str | None]:
    """Return the `current` and the `head` revision of one of MLflow's two schemas, and all `steps` up to it in one word each."""
    spec = find_spec("mlflow")
    if spec is None or spec.origin is None:
        raise SettingsError("MLflow is not installed in this environment")
    folder, table = where
    scripts = Path(spec.origin).parent / folder
    return {"current": current(database_uri, table), "head": head(scripts), "steps": " ".join(steps(scripts))}


def auth_database_uri(config_path: str) -> str:
    """Return the database that MLflow's auth ini file names."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(Path(config_path).read_text(encoding="utf-8"))
        return parser["mlflow"]["database_uri"]
    except OSError as error:
        raise SettingsError(f"cannot read {config_path} (named by MLFLOW_AUTH_CONFIG_PATH): {error.strerror}") from None
    except (configparser.Error, KeyError):
        raise SettingsError(f"{config_path} (named by MLFLOW_AUTH_CONFIG_PATH) has no database_uri in [mlflow]") from None
