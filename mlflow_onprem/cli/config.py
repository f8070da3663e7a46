"""config init, check, show."""

from __future__ import annotations

from pathlib import Path

from mlflow_onprem.cli.options import ConfigOption, JsonOption
from mlflow_onprem.cli.output import emit
from mlflow_onprem.cli.session import session
from mlflow_onprem.core.errors import ConfigError, ExitCode


def init(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Write a commented configuration with every default; an existing one is left alone."""
    from mlflow_onprem.settings import render
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
    emit("config init", {"path": str(path)}, render.written_text(str(path)), as_json=as_json)
    return ExitCode.OK


def check(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Check a configuration; nothing is touched."""
    from mlflow_onprem.settings import render
    from mlflow_onprem.settings.facts import own_locks
    from mlflow_onprem.stack.mlflow_release import lock
    from mlflow_onprem.stack.preflight import check_schedule

    with session(config) as run:
        lock(run.config.mlflow.version, own_locks(run.host))
        check_schedule(run.host, run.config)
    path = run.loaded.path
    exists = Path(path).exists()
    emit("config check", {"path": path, "exists": exists, "valid": True}, render.valid_text(path, exists=exists), as_json=as_json)
    return ExitCode.OK


def show(config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Print the settings in force and where each comes from: default, file or environment."""
    from mlflow_onprem.settings import render

    with session(config) as run:
        rows = render.rows(run.loaded)
    emit("config show", render.settings_json(rows), render.settings_text(rows), as_json=as_json)
    return ExitCode.OK
