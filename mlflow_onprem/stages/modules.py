"""Our own modules for MLflow's environment (server/), as they are laid out on a host."""

from __future__ import annotations

from functools import cache

from mlflow_onprem.package_data import names, read
from mlflow_onprem.resources.modules import digest_of

SERVER = "mlflow_onprem_server"


def key() -> str:
    """A short name for what is in them."""
    return digest_of(contents())


@cache
def contents() -> dict[str, str]:
    """Every file, with the metadata that makes their entry points known."""
    found = {f"{SERVER}/{name}": read(f"server/{name}") for name in names("server", "*.py")}
    info = f"{SERVER}-1.0.dist-info"
    return {
        **found,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {SERVER.replace('_', '-')}\nVersion: 1.0\n",
        f"{info}/entry_points.txt": read("server/entry_points.txt"),
        f"{info}/RECORD": "",
    }
