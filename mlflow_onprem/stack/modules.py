"""Our own package for MLflow's environment (server/), as it is laid out on a host."""

from __future__ import annotations

import re
from functools import cache

from mlflow_onprem.resources.modules import digest_of
from mlflow_onprem.system.package_data import SERVER, names, read


def key() -> str:
    """A short name for what is in them."""
    return digest_of(contents())


@cache
def contents() -> dict[str, str]:
    """Every file, with the metadata that makes their entry points known."""
    found = {f"{SERVER}/{name}": read(f"{SERVER}/{name}") for name in names(SERVER, "*.py")}
    version = re.findall(r'^__version__ = "(.+)"$', found[f"{SERVER}/__init__.py"], re.MULTILINE)[0]
    info = f"{SERVER}-{version}.dist-info"
    return {
        **found,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {SERVER.replace('_', '-')}\nVersion: {version}\n",
        f"{info}/entry_points.txt": read(f"{SERVER}/entry_points.txt"),
        f"{info}/RECORD": "",
    }
