"""Keys that closed what stands in the database: one to close with, and during a rotation another one that still opens.

MLflow knows one passphrase and one webhook key. While workers are replaced, some of them close with the old key and some with the
new one, and each must open what the other closed. The file of such a key holds one on each line; the first is the one to close with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Any

from .settings import Settings, read_secrets

KEK = "MLFLOW_CRYPTO_KEK_PASSPHRASE"
WEBHOOK = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"


def install(settings: Settings) -> None:
    """Give MLflow, already imported, all the keys of the files as they are now."""
    if WEBHOOK in settings.secret_files:
        from mlflow.store.model_registry.dbmodels.models import SqlWebhook

        # MLflow makes this cipher when the module is imported, which is before a worker may read a secret.
        SqlWebhook.__table__.c.secret.type.cipher = webhook_cipher(read_secrets(settings.secret_files[WEBHOOK], WEBHOOK))
    if KEK in settings.secret_files:
        from mlflow.utils import crypto

        _, *others = read_secrets(settings.secret_files[KEK], KEK)
        if others:
            crypto.unwrap_dek = opening_with_any(crypto.unwrap_dek, [partial(key_of, other) for other in others])


def webhook_cipher(keys: Iterable[str]) -> Any:
    """Closes with the first key, opens with any."""
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(key) for key in keys])


def opening_with_any(unwrap: Callable[[bytes, bytes], bytes], others: Iterable[Callable[[], bytes]]) -> Callable[[bytes, bytes], bytes]:
    """MLflow's function that opens a data key, trying further keys where the one it is given does not fit."""
    from mlflow.exceptions import MlflowException

    further = tuple(others)

    def unwrap_with_any(wrapped_dek: bytes, kek: bytes) -> bytes:
        for key in (lambda: kek, *further):
            try:
                return unwrap(wrapped_dek, key())
            except MlflowException as error:
                refused = error
        raise refused

    return unwrap_with_any


@lru_cache(maxsize=8)
def key_of(passphrase: str) -> bytes:
    """The key that MLflow derives from a passphrase; it takes a quarter of a second."""
    from mlflow.utils.crypto import KEKManager

    key: bytes = KEKManager(passphrase=passphrase).get_kek()
    return key
