"""The systemd-nspawn process of a host: started, found again, entered and ended.

It is found by the folder in its own command line, which only we use: no pid file that a crash leaves stale, and never somebody else's process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mlflow_onprem.core import wait
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.system.local_host import LocalHost

#: There where systemd is this machine's pid 1.
SYSTEMD = Path("/run/systemd/system")
_LAUNCH = Path(__file__).with_name("launch.py")


def wait_until(condition: Callable[[], bool], seconds: float, what: str, *, every: float = 0.02) -> None:
    """Look again and again until the condition holds. Raises OnPremError at the deadline."""
    if not wait.until(condition, seconds, every=every):
        raise OnPremError(f"{what}: not within {seconds:.0f} seconds", "look at the sandbox's log, then `sudo mlflow-onprem sandbox down`")


def find(root: Path) -> int | None:
    """The pid of the systemd-nspawn that runs the tree at `root`."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _is_nspawn(int(entry.name), root):
            return int(entry.name)
    return None


def leader(supervisor: int) -> int | None:
    """The host's own pid 1, as this machine numbers it, once it is systemd: before that, entering it would enter this machine."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _parent(int(entry.name)) == supervisor and _is_init(int(entry.name)):
            return int(entry.name)
    return None


def send(root: Path, number: signal.Signals) -> bool:
    """Signal the host's systemd-nspawn, and nobody who got its pid meanwhile. False: it does not run."""
    pid = find(root)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if _is_nspawn(pid, root):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
    return True


def end(host: LocalHost, root: Path, unit: str) -> None:
    """Cut the power: everything in the host's cgroup dies at once, also a host whose systemd-nspawn was killed and left it behind."""

    def dead() -> bool:
        for group in _groups_of(unit):
            with contextlib.suppress(OSError):
                (group / "cgroup.kill").write_text("1")
        return not send(root, signal.SIGKILL)

    wait_until(dead, 10, f"the sandbox at {root} did not die")
    tidy(host, unit)


def exists(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def launch(host: LocalHost, argv: Sequence[str], *, log: Path, unit: str, memory: str | None) -> int:
    """Start systemd-nspawn in a cgroup of its own, detached from us; returns its pid."""
    if SYSTEMD.is_dir():
        scope = ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={unit}", "--slice=machine.slice", "--property=Delegate=yes"]
        limit = [f"--property=MemoryMax={memory}"] if memory else []
        prefix, groups = [*scope, *limit], []
    else:
        prefix, groups = [], _make_cgroups(unit, memory)
    environment = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    started = host.run([sys.executable, "-I", "-S", str(_LAUNCH), str(log), *map(str, groups), "--", *prefix, *argv], env=environment)
    return int(started.out)


def tidy(host: LocalHost, unit: str) -> None:
    """After the last process is gone: the cgroup goes too, so that the next boot may have the name."""
    if SYSTEMD.is_dir():
        # Only systemd may remove a scope: one whose folder vanished counts as running for ever. 5: it is gone already.
        host.run(["systemctl", "stop", unit], ok=(0, 5))
        return

    def gone() -> bool:
        groups = _groups_of(unit)
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
        return not any(group.exists() for group in groups)

    with contextlib.suppress(OnPremError):
        wait_until(gone, 5, f"cgroups of {unit} are busy")


def mounts_below(path: Path) -> list[Path]:
    """What is mounted at or below a folder, deepest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4].replace("\\040", " ")) for line in lines]
    return sorted((point for point in points if point == path or path in point.parents), key=lambda point: len(point.parts), reverse=True)


def unmount_below(host: LocalHost, path: Path) -> None:
    """Unmount everything at or below a folder."""
    for point in mounts_below(path):
        host.run(["umount", str(point)], hint=f"something still uses {point}: `fuser -vm {point}`")


def _cgroup_mounts() -> dict[Path, str]:
    """Where we can make cgroups: the unified tree, and of the old ones systemd's and memory's."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        names = options.split(",")
        if kind == "cgroup2" or (kind == "cgroup" and ("name=systemd" in names or "memory" in names)):
            found[Path(fields.split()[4])] = "memory" if "memory" in names else kind
    return found


def _groups_of(unit: str) -> list[Path]:
    """The cgroups of a host that exist: at the top where we made them, in machine.slice where systemd did."""
    return [group for top in _cgroup_mounts() for group in (top / unit, top / "machine.slice" / unit) if group.is_dir()]


def _make_cgroups(unit: str, memory: str | None) -> list[Path]:
    made = []
    for top, kind in _cgroup_mounts().items():
        if kind == "memory" and memory is None:
            continue
        group = top / unit
        group.mkdir(exist_ok=True)
        if kind == "memory":
            (group / "memory.limit_in_bytes").write_text(str(memory))
        made.append(group)
    return made


def _is_nspawn(pid: int, root: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    # launch.py and systemd-run become systemd-nspawn under the same pid.
    return any(word.endswith(b"systemd-nspawn") for word in words) and f"--directory={root}".encode() in words


def _is_init(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return fields.get("NSpid", "").split()[-1:] == ["1"] and fields["Name"].strip() in ("systemd", "init")


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return None
