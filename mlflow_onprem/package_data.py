"""Files that travel with the program: units, locks, the server's modules. In a checkout they stand in its folders, in a wheel inside the package."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def read(name: str) -> str:
    """The text of `units/...`, `locks/...`, `server/...` or `config.example.toml`."""
    inside = PACKAGE / name
    return (inside if inside.exists() else PACKAGE.parent / name).read_text(encoding="utf-8")


def names(folder: str, pattern: str) -> list[str]:
    """Sorted names of the files in `folder` that match."""
    inside = PACKAGE / folder
    return sorted(path.name for path in (inside if inside.is_dir() else PACKAGE.parent / folder).glob(pattern))
