"""What bringing in a stack that was built by hand adds to the lists, by where it has to happen."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.core.resource import Resource


@dataclass(frozen=True)
class Adopting:
    """The adoption's own resources; none on a host that needs no adoption.

    `before`: as soon as the state folder is there; `store`: before the store takes its folders; `access`: after our lines in
    pg_hba.conf; `tables`: when MLflow's tables are there; `done`: when MLflow serves.
    """

    before: tuple[Resource, ...] = ()
    store: tuple[Resource, ...] = ()
    access: tuple[Resource, ...] = ()
    tables: tuple[Resource, ...] = ()
    done: tuple[Resource, ...] = ()


NOTHING = Adopting()
