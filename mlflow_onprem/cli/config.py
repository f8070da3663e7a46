"""config init, check, show."""

from __future__ import annotations

from pathlib import Path

import typer

from mlflow_onprem.cli.run import ConfigOption, JsonOption, emit
from mlflow_onprem.core.errors import ConfigError, ExitCode

app = typer.Typer(help="The configuration file: write, check, show.", no_args_is_help=True)


@app.command()
def init(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Write a commented configuration with every default; an existing one is left alone."""
    from mlflow_onprem.settings.config_file import DEFAULT_PATH
    from mlflow_onprem.system.package_data import read

    path = Path(DEFAULT_PATH if config is None else config)
    if not path.name:
        raise ConfigError("--config names no file", "an unset variable? name a file, or leave --config out")
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        with path.open("x" if path.is_file() or not path.exists() else "w", encoding="utf-8") as file:
            file.write(read("config.example.toml"))
    except FileExistsError as there:
        raise ConfigError(f"{there.filename} exists and is left alone", "edit it, or move it away first") from None
    except PermissionError:
        raise ConfigError(f"{path} may not be written by this user", "run it with sudo") from None
    except OSError as failed:
        raise ConfigError(f"{path} could not be written: {failed.strerror}") from failed
    emit(
        "config init",
        {"path": str(path)},
        f"wrote {path}: every setting with its default; edit it, then: mlflow-onprem config check",
        as_json=as_json,
    )
    return ExitCode.OK


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Check a configuration; nothing is touched."""
    from mlflow_onprem.settings.config_file import load
    from mlflow_onprem.settings.facts import own_locks
    from mlflow_onprem.stack.mlflow_release import lock
    from mlflow_onprem.stack.preflight import check_schedule
    from mlflow_onprem.system.local_host import LocalHost

    loaded, host = load(config), LocalHost()
    lock(loaded.config.mlflow.version, own_locks(host))
    check_schedule(host, loaded.config)
    exists = Path(loaded.path).exists()
    text = f"{loaded.path} is right" if exists else f"there is no {loaded.path}: every setting has its default"
    emit("config check", {"path": loaded.path, "exists": exists, "valid": True}, text, as_json=as_json)
    return ExitCode.OK


@app.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Print the settings in force and where each comes from: default, file or environment."""
    from mlflow_onprem.core.resource import show as show_value
    from mlflow_onprem.settings.config_file import known_keys, load, value_of

    loaded = load(config)
    rows = {key: (value_of(loaded.config, key), loaded.sources.get(key, "default")) for key in known_keys()}
    body = {"settings": {key: {"value": value, "source": source} for key, (value, source) in rows.items()}}
    shown = {key: (show_value(value), source) for key, (value, source) in rows.items()}
    # One long value, such as a checksum, does not push all the others aside.
    width = max(len(text) for text, _ in shown.values() if len(text) <= 40)
    text = "\n".join(f"{key:<{max(map(len, rows))}}  {text:<{width}}  {source}" for key, (text, source) in shown.items())
    emit("config show", body, text, as_json=as_json)
    return ExitCode.OK
