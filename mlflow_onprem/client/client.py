"""What MLflow's client would use, as its environment says."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.core.secret import Secret

EMPTY = Secret("")


@dataclass(frozen=True)
class Client:
    """What MLflow's client would use. `verify`: a CA bundle's path, or whether to check certificates at all."""

    uri: str
    username: str = ""
    password: Secret = EMPTY
    token: bool = False
    verify: str | bool = True
    proxy: str = ""
    netrc: tuple[str, Secret] | None = None
    store: str = ""
