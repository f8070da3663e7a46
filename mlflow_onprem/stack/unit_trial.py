"""Before anything is changed: a transient unit with the very sandboxing of ours says whether this kernel, or the container around it, allows it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mlflow_onprem.core.errors import Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.resources.packages import AptPackages
from mlflow_onprem.settings import topology
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system.exit_status import ELSEWHERE, Explained, explain, mount_forbids_programs, no_programs
from mlflow_onprem.system.package_data import read
from mlflow_onprem.system.systemd import journal_tail

UNIT = "mlflow-onprem-trial"
USER = 217
#: Lines of [Service] that are no sandboxing, or that need what install has still to make.
NOT_TRIED = (
    "Type", "NotifyAccess", "User", "Group", "EnvironmentFile", "Exec", "Restart", "Timeout", "KillMode", "StateDirectory", "WorkingDirectory",
    "UMask", "ReadWritePaths",
)  # fmt: skip


def check(host: Host, assembly: Assembly) -> None:
    """Raises Refused where our services could not be started here, with the way out. A service that runs proves it, and is not tried."""
    _programs(host, assembly)
    for unit in topology.units(assembly.config, None):
        if not assembly.to.systemd.status(unit).running:
            _try(host, unit, private_users=assembly.facts.private_users)


def _programs(host: Host, assembly: Assembly) -> None:
    """Nothing starts from a filesystem that is mounted noexec; a package's own scripts do not either."""
    places = ["/opt/mlflow-onprem"]
    if mount_forbids_programs(host, "/var/lib/dpkg/info") and any(isinstance(r, AptPackages) and r.observe(host) != r.want for r in assembly.stack):
        places.append("/var/lib/dpkg/info")
    for place in places:
        if mount_forbids_programs(host, place):
            what, fix = no_programs(host, place)
            why = "dpkg cannot run the scripts of a package then" if place.startswith("/var") else f"the stack's programs go to {place}"
            raise Refused(f"{what}, and {why}", fix)


def _try(host: Host, unit: str, *, private_users: bool) -> None:
    name = f"{UNIT}-{os.getpid()}.service"
    lines = [*properties(read(f"units/{unit}")), *(() if private_users else ("PrivateUsers=no",))]
    argv = ["systemd-run", "--quiet", "--wait", "--collect", f"--unit={name}", "--property=User=nobody"]
    code = host.run([*argv, *(f"--property={line}" for line in lines), "/bin/true"], ok=range(256), timeout=60).code
    reason = explain(host, name, code)
    if reason is not None:
        if code == USER and private_users:  # the account is `nobody`, so it is the namespace; leaving it out would have been decided by now
            reason = Explained(reason.name, "systemd may make no user namespace here, though root may", ELSEWHERE)
        refused = Refused(f"{unit} could not be started on this host: {reason.what} ({reason.name})", reason.fix)
        refused.output = journal_tail(host, name, 5)
        raise refused


def properties(unit: str) -> Sequence[str]:
    """What a unit's text asks of the kernel, in its order."""
    service = unit.partition("[Service]")[2].partition("\n[")[0].splitlines()
    return [line for line in service if "=" in line and not line.startswith(("#", *NOT_TRIED))]
