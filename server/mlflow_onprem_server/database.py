"""Connections to a database whose role gets a new password while we serve.

libpq reads PGPASSFILE anew for every connection, but at any moment one of two passwords counts, and nobody can change a server and a
file in one step. While a rotation is under way the other password stands in a second file, and a refused connection is tried with it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

VARIABLE = "PGPASSFILE"
OTHER = "-other"


def accept_other_password() -> None:
    """Have every engine that SQLAlchemy makes in this process try the second file, where there is one."""
    if VARIABLE in os.environ:
        from sqlalchemy import event
        from sqlalchemy.engine import Engine

        event.listen(Engine, "do_connect", connect)


def connect(dialect: Any, _record: Any, arguments: Any, parameters: Any) -> Any:
    """SQLAlchemy's question for a new connection."""
    other = Path(os.environ[VARIABLE] + OTHER)
    try:
        return dialect.connect(*arguments, **parameters)
    except dialect.loaded_dbapi.OperationalError:
        if not other.exists():
            raise
    return dialect.connect(*arguments, **parameters, passfile=str(other))
