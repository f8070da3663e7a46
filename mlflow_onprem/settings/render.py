"""The verbs of `config` as text and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow_onprem.core.resource import show
from mlflow_onprem.settings.config_file import Loaded, known_keys, value_of

Rows = Mapping[str, tuple[Any, str]]


def rows(loaded: Loaded) -> Rows:
    """Every setting: its value, and where that comes from."""
    return {key: (value_of(loaded.config, key), loaded.sources.get(key, "default")) for key in known_keys()}


def settings_json(found: Rows) -> dict[str, Any]:
    """By dotted key."""
    return {"settings": {key: {"value": value, "source": source} for key, (value, source) in found.items()}}


def settings_text(found: Rows) -> str:
    """A line each."""
    shown = {key: (show(value), source) for key, (value, source) in found.items()}
    # One long value, such as a checksum, does not push all the others aside.
    width = max(len(text) for text, _ in shown.values() if len(text) <= 40)
    longest = max(map(len, shown))
    return "\n".join(f"{key:<{longest}}  {text:<{width}}  {source}" for key, (text, source) in shown.items())


def written_text(path: str) -> str:
    """What `config init` did, and what comes next."""
    return f"wrote {path}: every setting with its default; edit it, then: mlflow-onprem config check"


def valid_text(path: str, *, exists: bool) -> str:
    """That a configuration is valid, or that there is none."""
    return f"{path} is right" if exists else f"there is no {path}: every setting has its default"
