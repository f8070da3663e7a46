"""Settings that ALTER SYSTEM overrides: ours are reset, others stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlflow_onprem.clients.sql import SqlError
from mlflow_onprem.core.resource import Unknown, compare
from mlflow_onprem.resources.overrides import Overrides, OverridesState
from tests.fakes import FakeHost


class Cluster:
    """postgresql.auto.conf in memory; a reload counts."""

    def __init__(self, **auto: str) -> None:
        self.auto, self.reloads, self.down = dict(auto), 0, False

    def query(
        self, database: str, statement: str, identifiers: Mapping[str, str] | None = None, literals: Mapping[str, Any] | None = None
    ) -> list[list[Any]]:
        if self.down:
            raise SqlError("not there", "08006")
        if "pg_file_settings" in statement:
            return [[name, value] for name, value in sorted(self.auto.items())]
        if statement.startswith("ALTER SYSTEM RESET"):
            del self.auto[(identifiers or {})["setting"]]
        elif "pg_reload_conf" in statement:
            self.reloads += 1
        return [[self.reloads]]


def test_ours_are_reset_and_others_stay() -> None:
    cluster, host = Cluster(jit="on", log_min_duration_statement="100", max_connections="7"), FakeHost()
    resource = Overrides(cluster, "postgresql@15-main.service", ("jit", "max_connections"))
    have = resource.observe(host)
    assert have == OverridesState(("jit = on", "max_connections = 7"))
    change = compare(resource, have)
    assert change is not None
    assert change.fields["overridden_by_alter_system"].have == "jit = on, max_connections = 7"
    assert isinstance(have, OverridesState)
    resource.apply(host, have)
    assert cluster.auto == {"log_min_duration_statement": "100"}
    assert cluster.reloads == 1
    assert resource.observe(host) == resource.want


def test_a_cluster_that_is_not_there_is_unknown() -> None:
    cluster = Cluster()
    cluster.down = True
    assert isinstance(Overrides(cluster, "u", ("jit",)).observe(FakeHost()), Unknown)
    hidden = Overrides(cluster, "u", ("jit",)).observe(FakeHost(is_root=False))
    assert isinstance(hidden, Unknown)
    assert hidden.hidden
