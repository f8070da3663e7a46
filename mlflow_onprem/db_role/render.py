"""`db-role` as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlflow_onprem.db_role.command import Access

OPEN = 'allowed_networks = ["10.0.0.0/24"] in [postgres] of /etc/mlflow-onprem/config.toml, then `sudo mlflow-onprem install`'


def access_json(found: Access) -> dict[str, Any]:
    """Everything; the password where it was just generated, and at no other time."""
    body: dict[str, Any] = {
        "name": found.name, "read_only": found.read_only, "host": found.host, "port": found.port, "database": found.database,
        "networks": list(found.networks), "tls": found.tls,
    }  # fmt: skip
    return body if found.password is None else body | {"password": found.password.reveal()}


def access_text(found: Access, done: str) -> str:
    """What was done, the password, and what to paste."""
    may = "reads" if found.read_only else "reads and writes"
    lines = [f"{done} {found.name}: it {may} the database {found.database}, and reaches no other (not the accounts')"]
    if found.password is not None:
        lines.append(f"password, shown this once: {found.password.reveal()}")
    # Debian's certificate is made on the host itself: it encrypts, and proves to nobody which host this is.
    mode = " sslmode=require" if found.networks and found.tls else ""
    lines.append(f'psql "host={found.host} port={found.port} dbname={found.database} user={found.name}{mode}"')
    lines.append(f"it may come from this host and from {', '.join(found.networks)}" if found.networks else f"only from this host; to open it: {OPEN}")
    return "\n".join(lines)


def removed_text(name: str) -> str:
    """That it is gone, and what is not."""
    return f"removed role {name}; its connections were ended, no data went with it"


def list_text(found: Sequence[Access]) -> str:
    """A line for each."""
    if not found:
        return "no roles; MLflow's own is not for people. Make one: sudo mlflow-onprem db-role add NAME --read-only"
    width = max(len(each.name) for each in found)
    lines = [f"{each.name:<{width}}  {'reads' if each.read_only else 'reads and writes'}" for each in found]
    first = found[0]
    where = f"this host and {', '.join(first.networks)}" if first.networks else f"this host alone; to open it: {OPEN}"
    return "\n".join([*lines, "", f"database {first.database} on port {first.port}, from {where}"])
