"""What the object store can answer that is no answer."""

from __future__ import annotations

from mlflow_onprem.core.errors import OnPremError


class StoreUnreachable(OnPremError):
    """Nothing answers there, or it is not ready yet."""


class StoreStarting(StoreUnreachable):
    """It answers that it is not ready yet."""


class StoreForeign(StoreUnreachable):
    """Something answers there that does not speak as MinIO does."""


class StoreRefused(OnPremError):
    """The store answered that these credentials may not do that."""
