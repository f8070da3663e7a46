"""`python -m mlflow_onprem_server.transplant tracking|accounts FILE`: bring an SQLite database of a hand-built MLflow into ours.

FILE is a copy that may be changed: it is brought to this MLflow's revision first, then every row goes over in one transaction, in the place of what a
fresh database holds. Killed anywhere, it is run again from the start. Of accounts, this stack's administrator stays beside those that come.
An account whose password is one that MLflow's documentation names is let in no more.
Prints {"rows": {table: n}, "left": {table: n}, "locked": [name]}.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from . import environment
from .settings import SettingsError, read

#: Alembic's own, that say which revision the tables have.
_VERSIONS = ("alembic_version", "alembic_version_auth")
_PUBLISHED = ("password1234", "password")
_ROWS = 1000


def tracking(path: str, uri: str) -> dict[str, Any]:
    """Runs, models, traces and all that belongs to them."""
    from mlflow.db import upgrade
    from sqlalchemy import create_engine

    upgrade.callback(f"sqlite:///{path}")
    return copy(create_engine(f"sqlite:///{path}"), create_engine(uri))


def accounts(path: str, uri: str, administrator: str) -> dict[str, Any]:
    """Accounts with their passwords' hashes, roles and permissions."""
    from mlflow.server.auth.db import utils
    from sqlalchemy import create_engine, text

    source, target = create_engine(f"sqlite:///{path}"), create_engine(uri)
    utils.migrate_if_needed(source, "head")
    with target.connect() as connection:
        own = connection.execute(text("SELECT username, password_hash FROM users WHERE username = :name"), {"name": administrator}).one()
    locked = _lock(source)
    return {**copy(source, target, {"users": {"username": own[0], "password_hash": own[1], "is_admin": True}}), "locked": locked}


def _lock(source: Any) -> list[str]:
    from sqlalchemy import text
    from werkzeug.security import check_password_hash, generate_password_hash  # type: ignore[import-not-found]

    locked = []
    with source.begin() as connection:
        for name, held in connection.execute(text("SELECT username, password_hash FROM users")).all():
            if any(check_password_hash(held, each) for each in _PUBLISHED):
                new = generate_password_hash(secrets.token_urlsafe(32))
                connection.execute(text("UPDATE users SET password_hash = :new WHERE username = :name"), {"new": new, "name": name})
                locked.append(name)
    return locked


def copy(source: Any, target: Any, keep: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Every row of every table in the place of what is there; rows in `keep` are added without a number of their own. One transaction."""
    from sqlalchemy import MetaData, delete, func, insert, inspect, select

    there = MetaData()
    there.reflect(target)
    tables = [table for table in there.sorted_tables if table.name not in _VERSIONS]
    names = set(inspect(source).get_table_names())
    copied: dict[str, int] = {}
    left: dict[str, int] = {}
    with source.connect() as origin, target.begin() as connection:
        for table in reversed(tables):
            connection.execute(delete(table))
        for table in tables:
            if table.name not in names:
                continue
            total = 0
            for rows in _batches(origin, table, {column["name"] for column in inspect(source).get_columns(table.name)}, names):
                connection.execute(insert(table), rows)
                total += len(rows)
            count = connection.execute(select(func.count()).select_from(table)).scalar_one()
            if count != total:
                raise RuntimeError(f"table {table.name}: {total} rows were sent, {count} arrived")
            orphans = origin.exec_driver_sql(f'SELECT count(*) FROM "{table.name}"').scalar_one() - total  # noqa: S608 - a table's name
            copied |= {table.name: total} if total else {}
            left |= {table.name: orphans} if orphans else {}
            _number(connection, table)
        for table in tables:
            if (row := (keep or {}).get(table.name)) is not None:
                connection.execute(insert(table), [dict(row)])
    return {"rows": copied, "left": left}


def _batches(origin: Any, table: Any, held: set[str], tables: set[str]) -> Iterator[list[dict[str, Any]]]:
    """Rows of a table as the target's types want them, without those whose parent is gone: SQLite does not look, PostgreSQL does."""
    columns = [column for column in table.columns if column.name in held]
    conditions = [
        f'("{key.parent.name}" IS NULL OR "{key.parent.name}" IN (SELECT "{key.column.name}" FROM "{key.column.table.name}"))'  # noqa: S608
        for constraint in table.foreign_key_constraints
        if len(constraint.elements) == 1
        for key in constraint.elements
        if key.parent.name in held and key.column.table.name in tables
    ]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    names = ", ".join(f'"{column.name}"' for column in columns)
    found = origin.exec_driver_sql(f'SELECT {names} FROM "{table.name}"{where}')  # noqa: S608 - names of tables and columns
    while rows := found.fetchmany(_ROWS):
        yield [{column.name: _value(column, value) for column, value in zip(columns, row, strict=True)} for row in rows]


def _value(column: Any, value: Any) -> Any:
    """SQLite keeps a boolean as a number, a time and JSON as text; and a text may hold a character that PostgreSQL does not take."""
    from sqlalchemy import JSON, Boolean, DateTime

    if value is None:
        return None
    if isinstance(column.type, Boolean):
        return bool(value)
    if isinstance(column.type, DateTime) and isinstance(value, str):
        return datetime.datetime.fromisoformat(value)
    if isinstance(column.type, JSON) and isinstance(value, str):
        return json.loads(value)
    return value.replace("\0", "") if isinstance(value, str) else value


def _number(connection: Any, table: Any) -> None:
    """The next number that the table gives away is above those that came."""
    from sqlalchemy import text

    for column in table.primary_key.columns:
        if str(column.type) not in ("INTEGER", "BIGINT"):
            continue
        find = text("SELECT pg_get_serial_sequence(:table, :column)")
        sequence = connection.execute(find, {"table": f'"{table.name}"', "column": column.name}).scalar_one()
        if sequence is not None:
            set_to = f'SELECT setval(:sequence, coalesce(max("{column.name}"), 0) + 1, false) FROM "{table.name}"'  # noqa: S608
            connection.execute(text(set_to), {"sequence": sequence})


def main(arguments: list[str]) -> int:
    """Run the command; 0 when everything is there, 1 and 2 on errors."""
    what, path = arguments
    try:
        settings = read(os.environ)
        environment.apply(settings)
        if what == "tracking":
            answer = tracking(path, settings.database_uri)
        else:
            from mlflow.server import auth

            answer = accounts(path, auth.auth_config.database_uri, auth.auth_config.admin_username)
    except SettingsError as error:
        print(f"mlflow_onprem_server.transplant: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # one line for the operator; never the statement, whose values may be anybody's
        message = str(getattr(error, "orig", None) or error).strip().splitlines()
        print(f"mlflow_onprem_server.transplant: {type(error).__name__}: {message[0] if message else ''}", file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
