"""Log lines for the journal: no colours, no time of our own, the priority where journald reads it."""

from __future__ import annotations

import logging
import os
from typing import Any

_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


class JournalFormatter(logging.Formatter):
    """Put journald's `<priority>` before each line when the output goes to the journal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text, one prefix a line, so that a traceback keeps its priority."""
        text = super().format(record)
        if "JOURNAL_STREAM" not in os.environ:
            return text
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in text.splitlines())


def config(access_log: bool) -> dict[str, Any]:
    """Return the `logging.config` dictionary for the supervisor and its workers."""
    quiet = {"level": "WARNING"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"journal": {"()": JournalFormatter, "fmt": "%(levelname)s %(name)s[%(process)d]: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "journal"}},
        "root": {"level": "INFO", "handlers": ["stderr"]},
        "loggers": {
            "uvicorn.access": {"level": "INFO" if access_log else "WARNING"},
            "alembic": quiet,
            "botocore": quiet,
            "boto3": quiet,
            "urllib3": quiet,
        },
    }
