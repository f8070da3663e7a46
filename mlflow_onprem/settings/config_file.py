"""Where each value of the configuration comes from: the default, the file, or an environment variable."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mlflow_onprem.core.errors import ConfigError
from mlflow_onprem.settings.config import Config

DEFAULT_PATH = "/etc/mlflow-onprem/config.toml"
PREFIX = "MLFLOW_ONPREM_"
#: Variables with our prefix that are not configuration.
NOT_CONFIGURATION = ("MLFLOW_ONPREM_SANDBOX_", "MLFLOW_ONPREM_TEST_", "MLFLOW_ONPREM_COMPLETE", "MLFLOW_ONPREM_STALL_SECONDS", "_MLFLOW_ONPREM_")
SECRET_NAMES = re.compile(r"(password|passwd|secret|token|passphrase|access_key|private_key)$")
EXAMPLE = "`mlflow-onprem config init --config ./example.toml` writes every setting with its default"


@dataclass(frozen=True)
class Loaded:
    """The configuration and, for every key that is not at its default, its source: the file's path or the variable's name."""

    config: Config
    sources: Mapping[str, str]
    path: str


def load(path: str | None = None, environ: Mapping[str, str] = os.environ) -> Loaded:
    """Read and check everything. A missing file at the default path means all defaults.

    Raises ConfigError, with the nearest known key for an unknown one, and without any value.
    """
    place = DEFAULT_PATH if path is None else path
    if not place:
        raise ConfigError("--config names no file", "an unset variable? name a file, or leave --config out")
    values = _read(place, must_exist=path is not None)
    _refuse_secrets(values, place)
    sources = dict.fromkeys(_leaves(values), place)
    variables = _variables(environ)
    from_environment: dict[str, Any] = {}
    if variables:
        from mlflow_onprem.settings import sources as settings_sources

        from_environment = settings_sources.of_environment({name: environ[name] for name in variables})
    for variable, key in variables.items():
        value: Any = from_environment
        for part in key.split("."):
            value = value[part]
        target = values
        for part in key.split(".")[:-1]:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise ConfigError(f"{part} in {place} is not a section", f"write it as [{part}], with its settings below")
        target[key.rsplit(".", maxsplit=1)[-1]] = value
        sources[key] = variable
    try:
        return Loaded(Config.model_validate(values), sources, place)
    except ValidationError as wrong:
        raise ConfigError("\n".join(_say(error, sources) for error in wrong.errors()), _mend(wrong, sources, place)) from None


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every key, dotted: minio.port, mlflow.auth.enabled, ..."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def value_of(config: Config, key: str) -> Any:
    """The value at a dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _read(path: str, *, must_exist: bool) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            # A shell's <(...): the TOML source of pydantic-settings passes over what is no file.
            piped = file.read() if stat.S_ISFIFO(mode) else None
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"there is no configuration at {path}", f"make one: mlflow-onprem config init --config {path}") from None
        return {}
    except PermissionError:
        raise ConfigError(f"{path} may not be read by this user", f"it holds no secrets: sudo chmod 0644 {path}") from None
    except OSError as failed:
        raise ConfigError(f"{path} cannot be read: {failed.strerror}") from failed
    if not stat.S_ISREG(mode) and piped is None:
        raise ConfigError(f"{path} cannot be read: it is neither a regular file nor a pipe", "write the configuration to a file, and name that")
    from mlflow_onprem.settings import sources

    try:
        return sources.of_file(path) if piped is None else sources.of_text(piped.decode())
    except OSError as failed:
        raise ConfigError(f"{path} cannot be read: {failed.strerror}") from failed
    except ValueError as broken:  # tomllib's, and bytes that are no text
        raise ConfigError(f"{path} is not valid TOML: {broken}", f"text needs quotes, lists brackets: {EXAMPLE}") from None


def _refuse_secrets(values: Mapping[str, Any], path: str) -> None:
    for key in _leaves(values):
        if SECRET_NAMES.search(key.rsplit(".", maxsplit=1)[-1].lower()) and key not in set(known_keys()):
            raise ConfigError(
                f"{key} in {path} looks like a secret, and this file holds none (everybody may read it)",
                "secrets are generated by install and kept in /etc/mlflow-onprem/credentials.json; "
                "for external services see credentials_file and password_file",
            )


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def variable_of(key: str) -> str:
    """minio.port -> MLFLOW_ONPREM_MINIO__PORT."""
    return PREFIX + key.replace(".", "__").upper()


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that are settings, with their keys. Raises ConfigError for one of our prefix that is none, in the old form too."""
    names = {variable_of(key): key for key in known_keys()}
    former = {PREFIX + key.replace(".", "_").upper(): variable_of(key) for key in known_keys()}
    found = {}
    for variable in environ:
        if not variable.startswith(PREFIX) or variable.startswith(NOT_CONFIGURATION):
            continue
        if variable in former:
            raise ConfigError(
                f"environment variable {variable} names no setting: two underscores stand between a section and its setting",
                f"its name is now {former[variable]}",
            )
        if variable not in names:
            near = difflib.get_close_matches(variable, [*names, *former], 1)
            raise ConfigError(
                f"environment variable {variable} names no setting", f"did you mean {former.get(near[0], near[0])}?" if near else "unset it"
            )
        found[variable] = names[variable]
    return found


def _mend(wrong: ValidationError, sources: Mapping[str, str], path: str) -> str:
    found: set[str] = set()
    for error in wrong.errors():
        key = _key(error)
        found |= {source for each, source in sources.items() if not key or f"{each}.".startswith(f"{key}.")} or {path}
    variables = sorted(source for source in found if source.startswith(PREFIX))
    fixes = [f"fix {path} ({EXAMPLE})"] if found.difference(variables) else []
    fixes += [f"correct or unset {', '.join(variables)}"] if variables else []
    return "; ".join(fixes)


def _key(error: Any) -> str:
    """The setting an error is about: a union's branches and a list's index stand in the location behind it. One that is not known is left whole."""
    whole = key = ".".join(str(part) for part in error["loc"] if isinstance(part, (str, int)))
    known = set(known_keys())
    while key not in known and "." in key:
        key = key.rpartition(".")[0]
    return key if key in known else whole


def _say(error: Any, sources: Mapping[str, str]) -> str:
    known = list(known_keys())
    key = ".".join(str(part) for part in error["loc"] if isinstance(part, (str, int)))
    if error["type"] == "extra_forbidden":
        sections = sorted({each.rpartition(".")[0] for each in known})
        near = difflib.get_close_matches(key, [*known, *sections], 1, 0.5)
        return f"{key} is not a setting" + (f"; did you mean {near[0]}?" if near else "")
    key = _key(error)
    text = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    origin = f" ({sources[key]})" if sources.get(key, "").startswith(PREFIX) else ""
    return f"{key}{origin}: {text}" if key else text
