"""Whether sandboxes can live in a folder: each stands on an overlay mount there, and not every filesystem or machine allows one."""

from __future__ import annotations

from pathlib import Path

from mlflow_onprem.core.errors import CommandFailed, Refused
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem_sandbox.process import unmount_below

LEAD = (
    "keep them on a disk of this machine (ext4, xfs or btrfs; `df -hT` shows which there are): run the same command with "
    "MLFLOW_ONPREM_SANDBOX_DIR=/FOLDER/ON/IT in its environment (sudo env MLFLOW_ONPREM_SANDBOX_DIR=... mlflow-onprem ...)"
)


def check(host: LocalHost, state: Path) -> None:
    """Mount one and take it away again. Raises Refused, in words, before anything is fetched or made."""
    trial = state / ".trial"
    unmount_below(host, trial)
    host.remove(str(trial))
    for name in ("lower", "upper", "work", "root"):
        (trial / name).mkdir(parents=True)
    options = f"lowerdir={trial}/lower,upperdir={trial}/upper,workdir={trial}/work,redirect_dir=on"
    try:
        host.run(["mount", "-t", "overlay", "overlay", "-o", options, str(trial / "root")])
    except CommandFailed as failed:
        raise _refused(host, state, failed) from failed
    finally:
        unmount_below(host, trial)
        host.remove(str(trial))


def _refused(host: LocalHost, state: Path, failed: CommandFailed) -> Refused:
    kind = host.run(["stat", "-f", "-c", "%T", str(state)]).out.strip()
    container = (host.read("/run/systemd/container") or b"").decode(errors="replace").strip()
    if kind == "overlayfs":
        where = "it is itself on an overlay, as the root of a container or of a live system is, and the kernel puts no overlay on an overlay"
        return Refused(f"no sandbox can be kept in {state}: {where}", LEAD)
    if "permission denied" in failed.output.lower() or "not permitted" in failed.output.lower():
        who = f"it is a container ({container})" if container else "its kernel or a container around it refuses that"
        return Refused(f"no sandbox can be made on this machine: a sandbox is mounted, and {who}", "use a plain server or a virtual machine for it")
    if "unknown filesystem type" in failed.output.lower():
        return Refused("no sandbox can be made on this machine: its kernel has no overlay filesystem", "sudo modprobe overlay; then run this again")
    refused = Refused(f"no sandbox can be kept in {state}: its filesystem ({kind}) cannot carry one", LEAD)
    refused.output = failed.output
    return refused
