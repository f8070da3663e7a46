"""The two places settings come from, as pydantic-settings reads them: one TOML file, and variables such as MLFLOW_ONPREM_MINIO__PORT.

Imported only where there is a file or a variable: it costs about as much as pydantic itself (docs/decisions/07-settings.md).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from mlflow_onprem.settings.config import Config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Settings(Config, BaseSettings):
    """The configuration as settings: how its variables are called. Its values are checked as a Config, which is what everything else knows."""

    model_config = SettingsConfigDict(env_prefix="MLFLOW_ONPREM_", env_nested_delimiter="__", defer_build=True)


class Environment(EnvSettingsSource):
    """Variables, each read as a person means it: see `read_text`."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(Settings)
        self.env_vars = {name.lower(): text for name, text in variables.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo | None, value: Any) -> Any:
        """A list; what is none is left to the settings' own check, which says so in plain words."""
        return read_text(value) if isinstance(value, str) else value


def of_file(path: str) -> dict[str, Any]:
    """What a TOML file holds, by section. Raises OSError, tomllib.TOMLDecodeError, UnicodeDecodeError."""
    return TomlConfigSettingsSource(Settings, path)()


def of_text(text: str) -> dict[str, Any]:
    """What TOML that came through a pipe holds, by section. Raises tomllib.TOMLDecodeError."""
    return tomllib.loads(text)


def of_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """What variables hold, by section; only those whose name is known are to be given."""
    return {section: _read(values) for section, values in Environment(variables)().items()}


def read_text(text: str) -> Any:
    """As TOML would read it where that makes a whole number, a truth, a list or a quoted text, otherwise the text itself (3.10)."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, (bool, int, list, str)) else text


def _read(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _read(each) for name, each in value.items()}
    return read_text(value) if isinstance(value, str) else value
