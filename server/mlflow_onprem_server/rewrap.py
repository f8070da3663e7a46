"""`python -m mlflow_onprem_server.rewrap`: close again, with the first key of each file, what an older one closed.

These are the gateway's secrets, by MLflow's own function for it, and the secrets of webhooks. One transaction: killed, nothing is
changed, and it is run again. `--check` only counts. What no key opens was lost before and is left as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from . import environment
from .keyring import KEK, WEBHOOK, key_of, webhook_cipher
from .settings import Settings, SettingsError, read, read_secrets

Counts = dict[str, int]


def rewrap(settings: Settings, *, change: bool) -> Counts:
    """Return how many rows were `older` (closed by another key than the first) and how many are `unreadable`."""
    import psycopg

    counts = {"older": 0, "unreadable": 0}
    plain = re.sub(r"^(postgresql|postgres)\+\w+:", "postgresql:", settings.database_uri)
    try:
        with psycopg.connect(plain, connect_timeout=10) as connection:
            if KEK in settings.secret_files:
                _gateway(connection, read_secrets(settings.secret_files[KEK], KEK), counts, change)
            if WEBHOOK in settings.secret_files:
                _webhooks(connection, read_secrets(settings.secret_files[WEBHOOK], WEBHOOK), counts, change)
    except psycopg.OperationalError as error:
        raise SettingsError(f"cannot connect to the database: {str(error).strip()}") from None
    return counts


def _gateway(connection: Any, passphrases: list[str], counts: Counts, change: bool) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils.crypto import KEKManager, rotate_secret_encryption, unwrap_dek

    def opens(wrapped: bytes, passphrase: str) -> bool:
        try:
            unwrap_dek(wrapped, key_of(passphrase))
        except MlflowException:
            return False
        return True

    rows = connection.execute("SELECT secret_id, encrypted_value, wrapped_dek FROM secrets FOR UPDATE").fetchall()
    for number, value, wrapped in rows:
        owner = _opener(passphrases, partial(opens, wrapped), counts)
        if owner is not None and change:
            fresh = rotate_secret_encryption(value, wrapped, KEKManager(passphrase=owner), KEKManager(passphrase=passphrases[0]))
            connection.execute("UPDATE secrets SET wrapped_dek = %s WHERE secret_id = %s", (fresh.wrapped_dek, number))


def _webhooks(connection: Any, keys: list[str], counts: Counts, change: bool) -> None:
    from cryptography.fernet import InvalidToken

    def opens(secret: str, key: str) -> bool:
        try:
            webhook_cipher([key]).decrypt(secret.encode())
        except InvalidToken:
            return False
        return True

    rows = connection.execute("SELECT webhook_id, secret FROM webhooks WHERE secret IS NOT NULL FOR UPDATE").fetchall()
    for number, secret in rows:
        owner = _opener(keys, partial(opens, secret), counts)
        if owner is not None and change:
            fresh = webhook_cipher(keys).rotate(secret.encode()).decode()
            connection.execute("UPDATE webhooks SET secret = %s WHERE webhook_id = %s", (fresh, number))


def _opener(keys: list[str], opens: Callable[[str], bool], counts: Counts) -> str | None:
    """The older key that opens a row, counted; None where the first one does, or none."""
    owner = next((key for key in keys if opens(key)), None)
    if owner is None:
        counts["unreadable"] += 1
    elif owner != keys[0]:
        counts["older"] += 1
        return owner
    return None


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when all rows were looked at, 1 and 2 on errors."""
    parser = argparse.ArgumentParser(prog="python -m mlflow_onprem_server.rewrap", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only count")
    options = parser.parse_args(arguments)
    try:
        settings = read(os.environ)
        environment.apply(settings)
        counts = rewrap(settings, change=not options.check)
    except SettingsError as error:
        print(f"mlflow_onprem_server.rewrap: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # without its text: a parser's message may quote the key
        print(f"mlflow_onprem_server.rewrap: {type(error).__name__}", file=sys.stderr)
        return 1
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
