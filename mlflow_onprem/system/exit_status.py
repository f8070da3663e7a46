"""systemd's own exit statuses (200 to 245): which step of a start failed, what that means here, and the way out.

A service never gets to its program with one of these: the kernel, a container around the host, a mount or a missing account is in the way.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from mlflow_onprem.core.errors import CommandFailed
from mlflow_onprem.core.host import Host

INSTALL = "sudo mlflow-onprem install"
LIMIT = "/proc/sys/user/max_user_namespaces"
NESTING = (
    "let the container nest, on the machine that runs it: Proxmox `pct set ID --features nesting=1`, LXD and Incus "
    "`lxc config set NAME security.nesting true`; restart the container, then run this again"
)
ELSEWHERE = "use a plain server or a virtual machine, or a container that may do what systemd asks for; then run this again"
#: status: systemd's name for the step, and what failed in plain words.
STEPS = {
    200: ("CHDIR", "its working folder is missing, or its account may not enter it"),
    203: ("EXEC", "its program cannot be started"),
    205: ("LIMITS", "the kernel refuses the limit on open files that it needs (65,536)"),
    206: ("OOM_ADJUST", "the kernel refuses to set how it counts when memory runs out"),
    209: ("STDOUT", "there is no journal for it to write to"),
    216: ("GROUP", "its group is missing or cannot be looked up"),
    217: ("USER", "its account is missing or cannot be looked up"),
    218: ("CAPABILITIES", "the kernel or the container around this host refuses to drop its rights"),
    219: ("CGROUP", "its control group cannot be made"),
    222: ("STDERR", "there is no journal for it to write to"),
    225: ("NETWORK", "the kernel or the container around this host refuses it a network namespace"),
    226: ("NAMESPACE", "the kernel or the container around this host refuses it a view of the files of its own"),
    227: ("NO_NEW_PRIVILEGES", "the kernel refuses to bar it from new rights"),
    228: ("SECCOMP", "the kernel or the container around this host refuses the filter of its system calls"),
    229: ("SELINUX_CONTEXT", "SELinux refuses it"),
    230: ("PERSONALITY", "the kernel refuses to fix its architecture"),
    231: ("APPARMOR_PROFILE", "AppArmor refuses it"),
    232: ("ADDRESS_FAMILIES", "the kernel or the container around this host refuses the filter of its network protocols"),
    233: ("RUNTIME_DIRECTORY", "its folder below /run cannot be made"),
    235: ("CHOWN", "the kernel or the container around this host refuses it its own files"),
    238: ("STATE_DIRECTORY", "its folder below /var/lib cannot be made or given to its account"),
    243: ("CREDENTIALS", "its credentials cannot be handed over"),
    245: ("BPF", "the kernel refuses the filter of its network addresses"),
}
HINTS = {
    200: INSTALL,
    205: "on the machine that runs this container, raise its limit on open files (nofile) to 65536 or more; then run this again",
    209: "sudo systemctl restart systemd-journald; then run this again",
    216: f"is a directory service (LDAP, SSSD) down? `getent group` shows it; {INSTALL} makes an account of our own again",
    217: f"is a directory service (LDAP, SSSD) down? `getent passwd` shows it; {INSTALL} makes an account of our own again",
    222: "sudo systemctl restart systemd-journald; then run this again",
    229: "`sudo ausearch -m avc -ts recent` names the rule",
    231: "`sudo journalctl -k --grep apparmor` names the profile",
    233: "is /run full or read-only? (df -h /run; findmnt /run)",
    238: "is /var full or read-only? (df -h /var; findmnt -T /var/lib); then run this again",
}
PROGRAMS = {
    "minio.service": "/opt/mlflow-onprem/object-store/current/minio",
    "mlflow.service": "/opt/mlflow-onprem/environments/current/bin/python",
}
MISSING = re.compile(r"set up mount namespac\w+: (?:/run/systemd/(?:unit-root|mount-rootfs))?(/\S*): No such file or directory")


@dataclass(frozen=True)
class Explained:
    """A start that failed before the program: `name` as systemd has it (226/NAMESPACE), in plain words, and the way out."""

    name: str
    what: str
    fix: str


def explain(host: Host, unit: str, status: int) -> Explained | None:
    """What a unit's exit status means on this host; None where it is the program's own."""
    if status not in STEPS:
        return None
    step, what = STEPS[status]
    what, fix = _seen(host, unit, status) or (what, HINTS.get(status, ELSEWHERE))
    return Explained(f"{status}/{step}", what, fix)


def _seen(host: Host, unit: str, status: int) -> tuple[str, str] | None:
    """What can be seen to be the reason; None where the step itself has to say enough."""
    if status == 203:
        return _program(host, unit)
    if status == 217 and (no_user_namespaces(host) or _has_account(host, unit)):
        return (
            "this host makes no user namespaces, and the unit asks for one (PrivateUsers)",
            f"{INSTALL} leaves that one line out; or allow them: sudo sysctl user.max_user_namespaces=15000 "
            "(and the same in a file of /etc/sysctl.d, so that it stays so), then run install",
        )
    if status == 226:
        folder = _missing_folder(host, unit)
        if folder is not None:
            return f"{folder} is missing, and the service needs it", f"is its disk mounted? (findmnt -T {folder}); if it was removed: {INSTALL}"
    container = container_of(host)
    if status in (218, 225, 226, 227, 228, 232, 235) and container:
        what = f"this host is a container ({container}) that may not make namespaces or filters of its own, and the services are fenced in by them"
        return what, NESTING if container.startswith("lxc") else ELSEWHERE
    return None


def _program(host: Host, unit: str) -> tuple[str, str] | None:
    program = PROGRAMS.get(unit)
    if program is None:
        return None
    if mount_forbids_programs(host, program):
        return no_programs(host, program)
    if not host.local(program).exists():
        return f"its program {program} is missing, or the Python that it was made with is gone", INSTALL
    return None


def no_programs(host: Host, path: str) -> tuple[str, str]:
    """A filesystem that is mounted noexec, in words."""
    try:
        mount = host.run(["findmnt", "-n", "-o", "TARGET", "-T", path]).out.strip()
    except CommandFailed:
        mount = f"the filesystem of {path}"
    return (
        f"{mount} is mounted noexec: no program there may run",
        f"sudo mount -o remount,exec {mount}; and take noexec out of its line in /etc/fstab, so that it stays so; then run this again",
    )


def mount_forbids_programs(host: Host, path: str) -> bool:
    """Whether the filesystem that holds `path` (or will hold it) is mounted noexec."""
    place = host.local(path)
    while not place.exists() and place != place.parent:
        place = place.parent
    return bool(os.statvfs(place).f_flag & os.ST_NOEXEC)


def no_user_namespaces(host: Host) -> bool:
    """Whether the kernel's own limit says so; anybody may look."""
    return (host.read(LIMIT) or b"").strip() == b"0"


def container_of(host: Host) -> str:
    """The kind of container that this host is (lxc, docker, systemd-nspawn ...), nothing on a machine."""
    return (host.read("/run/systemd/container") or b"").decode(errors="replace").strip()


def _has_account(host: Host, unit: str) -> bool:
    try:
        user = host.run(["systemctl", "show", "--property=User", "--value", unit]).out.strip()
        return bool(user) and host.run(["getent", "passwd", user], ok=(0, 2)).code == 0
    except CommandFailed:
        return False


def _missing_folder(host: Host, unit: str) -> str | None:
    """The folder that systemd says it did not find, where this user may read the journal."""
    try:
        text = host.run(["journalctl", "-u", unit, "-n", "30", "--no-pager", "-o", "cat"]).out
    except CommandFailed:
        return None
    found = MISSING.findall(text)
    return found[-1] if found else None
