"""What a client reads of a database error: its first line. The statement goes to the journal.

MLflow puts the text of SQLAlchemy's exceptions into its answers, and that text holds the whole SQL statement and its values: tables and columns, and
what others have stored in them.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger("mlflow_onprem.database")

_SHOWN = 2000


def install() -> None:
    """Shorten the text at its source, so that no route is forgotten; once in a process."""
    from sqlalchemy import event, exc
    from sqlalchemy.engine import Engine

    exc.StatementError._sql_message = _first_line
    event.listen(Engine, "handle_error", _journal)


def _first_line(error: Any) -> str:
    """Without statement, parameters and link, and without the lines in which PostgreSQL quotes the statement and others' values."""
    lines = str(error.args[0]).splitlines() if error.args else []
    return lines[0].strip() if lines else type(error).__name__


def _journal(context: Any) -> None:
    """The statement, without its values: those may be anybody's."""
    from sqlalchemy.exc import IntegrityError

    # Two clients that make the same thing at once are no fault of anybody's, and MLflow resumes from there.
    if context.statement and not isinstance(context.sqlalchemy_exception, IntegrityError):
        logger.error("the database refused a statement: %s: %.*s", context.original_exception, _SHOWN, context.statement)
