"""`python -m mlflow_onprem_server.administrator NAME`: set the password of an account in MLflow's own store of accounts.

For an administrator whose password nobody knows any more; MLflow's API wants the old one. The new one is read from standard input.
Workers that remember the old password go on accepting it until they are replaced.
"""

from __future__ import annotations

import os
import sys

from . import environment
from .settings import SettingsError, read


def main(arguments: list[str]) -> int:
    """Set it; 0 when it is set, 1 and 2 on errors."""
    try:
        environment.apply(read(os.environ))
        from mlflow.server import auth

        auth.store.init_db(auth.auth_config.database_uri)
        auth.store.update_user(arguments[0], password=sys.stdin.read().strip())
    except SettingsError as error:
        print(f"mlflow_onprem_server.administrator: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # without its text, which may hold what was read
        print(f"mlflow_onprem_server.administrator: {type(error).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
