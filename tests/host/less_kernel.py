"""Starts a host under a kernel that allows less: a filter of system calls on systemd-nspawn, which everything inside inherits.

`user` is a kernel that makes no user namespaces (user.max_user_namespaces = 0), `mount` one that makes no mount namespaces for services; both
answer as the kernel's own limits do: ENOSPC. The machine's limits themselves stay: they are those of every other host on it, too.
Usage: less_kernel.py {user|mount} NAME LAYER (as `Sandbox.start` takes them); the host lives on when this ends.
"""

from __future__ import annotations

import ctypes
import errno
import struct
import sys
from typing import Any

from mlflow_onprem_sandbox import Sandbox, layers, process, product

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06  # BPF: ld word absolute, jeq, jset, ret
NUMBER, FIRST = 0, 16  # offsets in struct seccomp_data: the call, and the low word of its first argument
CLONE, UNSHARE, CLONE3 = 56, 272, 435  # x86-64
NEW_USER, NEW_MOUNT = 0x10000000, 0x00020000
PROGRAMS: dict[str, list[tuple[int, int | None, int, int]]] = {
    # clone3 hides its flags from a filter; without it programs fall back to clone.
    "user": [(UNSHARE, FIRST, NEW_USER, errno.ENOSPC), (CLONE, FIRST, NEW_USER, errno.ENOSPC), (CLONE3, None, 0, errno.ENOSYS)],
    "mount": [(UNSHARE, FIRST, NEW_MOUNT, errno.ENOSPC)],
}


def instructions(kind: str) -> list[tuple[int, int, int, int]]:
    """(code, jump if true, jump if false, constant) of the filter."""
    code = []
    for number, argument, flag, error in PROGRAMS[kind]:
        code.append((LOAD, 0, 0, NUMBER))
        if argument is None:
            code += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | error)]
        else:
            code += [(JUMP_EQUAL, 0, 3, number), (LOAD, 0, 0, argument), (JUMP_SET, 0, 1, flag), (RETURN, 0, 0, ERRNO | error)]
    return [*code, (RETURN, 0, 0, ALLOW)]


def restrict(kind: str) -> None:
    """Put the filter on this process and all that come from it; root needs no promise to gain no rights."""
    code = instructions(kind)
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
    header = struct.pack("HxxxxxxP", len(code), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(header), 0, 0):
        raise OSError(ctypes.get_errno(), "the filter of system calls was refused")


def main(kind: str, name: str, key: str) -> None:
    layer = layers.find(key)
    assert layer is not None
    launch = process.launch

    def launch_restricted(*words: Any, **options: Any) -> int:
        restrict(kind)  # not before: the host's network is made with such namespaces
        return launch(*words, **options)

    process.launch = launch_restricted
    Sandbox.start(name, layer, hostname="server", binds=product.caches())


if __name__ == "__main__":
    main(*sys.argv[1:])
