"""Files that travel with the program: units, locks, the server's modules.

In a checkout they stand in its folders, installed they stand inside the package or beside it.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
SITE = PACKAGE.parent
SERVER = "mlflow_onprem_server"


def read(name: str) -> str:
    """The text of `units/...`, `locks/...`, `mlflow_onprem_server/...` or `config.example.toml`."""
    return _place(name).read_text(encoding="utf-8")


def names(folder: str, pattern: str) -> list[str]:
    """Sorted names of the files in `folder` that match."""
    return sorted(path.name for path in _place(folder).glob(pattern))


def _place(name: str) -> Path:
    within = SITE / "server" if name.startswith(SERVER) and (SITE / "server").is_dir() else SITE
    return next((path for path in (PACKAGE / name, within / name) if path.exists()), SITE / name)
