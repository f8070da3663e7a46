"""Which MLflow the Python of this machine would use as a client, and whether it goes with the server's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from mlflow_onprem.core.errors import CommandFailed, ConfigError
from mlflow_onprem.core.finding import Level
from mlflow_onprem.core.host import Host

#: mlflow-skinny is the client alone; mlflow brings it along in its own version.
_ASK = """
import importlib.metadata as found
for name in ("mlflow", "mlflow-skinny"):
    try:
        print(found.version(name))
        break
    except found.PackageNotFoundError:
        pass
"""


def installed(host: Host, environ: Mapping[str, str], python: str | None) -> str | None:
    """The version, or None where there is no MLflow. `python`: which one to ask; otherwise the active environment's, then PATH's.

    Raises ConfigError for a path that is no Python.
    """
    # Programs are started in /, so a path is made whole here; its symlinks stay: they are what makes an environment.
    candidates = [str(Path(shutil.which(python, path=environ.get("PATH")) or python).absolute())] if python is not None else _candidates(environ)
    home = {name: environ[name] for name in ("HOME", "PYTHONPATH", "VIRTUAL_ENV") if name in environ}
    for path in candidates:
        try:
            answer = host.run([path, "-c", _ASK], env=home, timeout=30).out.strip()
        except (CommandFailed, PermissionError, OSError) as failed:
            if python is not None:
                raise ConfigError(f"{python} is not a Python that can be asked for its MLflow", "--python takes the path of a Python") from failed
            continue
        if answer:
            return answer
    return None


def compare(client: str | None, server: str) -> tuple[Level, str, str]:
    """How well they go together, in words, and the fix. A patch release more or less makes no difference."""
    install = f"pip install 'mlflow=={server}'"
    if client is None:
        return "warning", "no MLflow was found in this machine's Python", f"{install}, or name the right Python: --python PATH"
    have, wanted = _numbers(client), _numbers(server)
    if have == wanted:
        return "ok", f"the client's MLflow {client} goes with the server's {server}", ""
    if have > wanted:
        text = f"the client's MLflow {client} is newer than the server's {server}: what the server does not know yet will fail"
        return "error" if have[:1] > wanted[:1] else "warning", text, f"{install}, or have the server upgraded: sudo mlflow-onprem upgrade"
    text = f"the client's MLflow {client} is older than the server's {server}: tracking works, what is new on the server it cannot show"
    return "warning", text, install


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _candidates(environ: Mapping[str, str]) -> list[str]:
    active = [Path(environ[name]) / "bin/python" for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if environ.get(name)]
    on_path = [found for name in ("python", "python3") if (found := shutil.which(name, path=environ.get("PATH")))]
    return list(dict.fromkeys([*(str(each) for each in active if each.exists()), *on_path]))
