"""Settings of ours that `ALTER SYSTEM` overrides: postgresql.auto.conf is read after every other file."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.clients.sql import Sql, SqlError
from mlflow_onprem.core import wait
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base, Unknown

DEADLINE = 20.0  # seconds, for the server to read its files again


@dataclass(frozen=True)
class OverridesState:
    """`name = value` of each setting of ours that stands in postgresql.auto.conf."""

    overridden_by_alter_system: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overrides(Base):
    """None of our settings is overridden by ALTER SYSTEM; settings that are not ours stay as they are."""

    sql: Sql
    unit: str
    settings: tuple[str, ...]
    want: OverridesState | None = OverridesState()

    @property
    def name(self) -> str:
        return f"overrides:{self.unit}"

    def observe(self, host: Host) -> OverridesState | Unknown | None:
        if self.want is None:
            return None
        if not host.is_root:
            return Unknown("only root may look into PostgreSQL", hidden=True)
        statement = "SELECT name, setting FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.auto.conf' ORDER BY name"
        try:
            rows = self.sql.query("postgres", statement)
        except SqlError as failed:
            if failed.unreachable:
                return Unknown(failed.why)
            raise
        return OverridesState(tuple(f"{name} = {value}" for name, value in rows if name in self.settings))

    def apply(self, host: Host, have: OverridesState | None) -> None:
        if have is None:
            return
        for each in have.overridden_by_alter_system:
            self.sql.query("postgres", "ALTER SYSTEM RESET {setting}", {"setting": each.partition(" = ")[0]})
        before = self._loaded_at()
        self.sql.query("postgres", "SELECT pg_reload_conf()")
        if not wait.until(lambda: self._loaded_at() != before, DEADLINE):
            raise OnPremError(f"PostgreSQL did not take up its settings within {DEADLINE:.0f} s", "look at `mlflow-onprem logs postgres`")

    def _loaded_at(self) -> str:
        return str(self.sql.query("postgres", "SELECT pg_conf_load_time()")[0][0])
