"""The whole stack as lists of resources: pure functions of configuration, credentials and facts."""

from __future__ import annotations

from mlflow_onprem.core.engine import Stack
from mlflow_onprem.core.resource import Mode, Phase, Text, in_phase
from mlflow_onprem.resources.files import Directory, DirectoryState, File, FileState
from mlflow_onprem.resources.packages import AptPackages, AptPackagesState
from mlflow_onprem.resources.services import STAMPS
from mlflow_onprem.settings import credentials as credentials_module
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.credentials import Credentials
from mlflow_onprem.settings.facts import USERS_NOTE, Facts
from mlflow_onprem.stack import minio, mlflow, postgres, timers
from mlflow_onprem.stack.adopting import NOTHING, Adopting
from mlflow_onprem.stack.connections import Connections
from mlflow_onprem.stack.inputs import External

FOLDERS = ("/etc/mlflow-onprem", "/opt/mlflow-onprem", "/var/lib/mlflow-onprem")


def build(
    config: Config,
    credentials: Credentials,
    facts: Facts,
    external: External,
    to: Connections,
    uv: str = "uv",
    adopting: Adopting = NOTHING,
    *,
    may_migrate: bool = False,
) -> Stack:
    """Everything `install` converges, in order. One apt run brings all packages; only what needs one of them waits for it.

    `may_migrate`: existing tables may be brought to a newer revision, for the caller has seen to the way back.
    """
    wanted = (*postgres.packages(config, facts), *([f"python{facts.python_version}"] if facts.python == "apt" else []))
    packages = in_phase(Phase.BUILD, AptPackages(wanted, AptPackagesState(frozenset(wanted)))) if wanted else ()
    everybody_waits = facts.python == "apt"
    return Stack(
        first=(
            *in_phase(
                Phase.PREPARE,
                *(Directory(path, DirectoryState(Mode(0o755), "root", "root"), shared=True) for path in FOLDERS),
                *adopting.before,
                File(USERS_NOTE, FileState(Text("".join(f"{name}\n" for name in facts.users_before)), Mode(0o644), "root", "root"), holds_data=True),
                Directory(STAMPS, DirectoryState(Mode(0o700), "root", "root")),
                credentials_module.resource(credentials),
                credentials_module.dates_resource(credentials),
                *postgres.before_packages(config, facts),
            ),
            *(packages if everybody_waits else ()),
        ),
        lanes={
            "object store": minio.resources(config.minio, credentials, facts, to, adopting, presigned=config.mlflow.artifacts == "presigned"),
            "PostgreSQL": (
                *(() if everybody_waits else packages),
                *in_phase(Phase.DATA, *postgres.resources(config, credentials, facts, external, to, adopting)),
            ),
            "Python environment": mlflow.python_lane(config, facts, uv),
        },
        last=(
            *mlflow.resources(config, credentials, facts, to, uv, adopting, may_migrate=may_migrate),
            *in_phase(
                Phase.SERVE,
                *postgres.roles(config, external, to),
                *timers.resources(config, to.systemd),
            ),
        ),
        names=("host", "mlflow"),
    )
