"""Which MLflow the Python of this machine would use as a client."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from mlflow_onprem.errors import CommandFailed, ConfigError
from mlflow_onprem.host import Host

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
    candidates = [python] if python is not None else _candidates(environ)
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


def _candidates(environ: Mapping[str, str]) -> list[str]:
    active = [Path(environ[name]) / "bin/python" for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if environ.get(name)]
    on_path = [found for name in ("python", "python3") if (found := shutil.which(name, path=environ.get("PATH")))]
    return list(dict.fromkeys([*(str(each) for each in active if each.exists()), *on_path]))
