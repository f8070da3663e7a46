"""`python -m mlflow_onprem_server`: start the MLflow service in the foreground."""

from __future__ import annotations

import os
import sys

from .settings import SettingsError, read


def main() -> int:
    """Read the settings and serve; 2 when a setting is missing or wrong."""
    try:
        settings = read(os.environ)
    except SettingsError as error:
        print(f"mlflow_onprem_server: {error}", file=sys.stderr)
        return 2
    from . import logs, supervisor

    return supervisor.serve(settings, logs.config(settings.access_log))


if __name__ == "__main__":
    sys.exit(main())
