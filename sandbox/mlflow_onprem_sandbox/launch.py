"""Starts a program that outlives its starter: `python launch.py LOG [CGROUP...] -- ARGV...`.

Run as a file of its own, standard library only. A host must sit in a cgroup of its own *before* systemd-nspawn looks at where it runs (two hosts
in one cgroup take each other for their own services), and must not hang on the pipes or the session of the command that started it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Detach and say the pid, join the cgroups, write to the log, become the program."""
    split = arguments.index("--")
    log, cgroups, argv = arguments[0], arguments[1:split], arguments[split + 1 :]
    child = os.fork()
    if child:
        print(child)
        return
    os.setsid()
    for cgroup in cgroups:
        (Path(cgroup) / "cgroup.procs").write_text(str(os.getpid()))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.execvp(argv[0], argv)  # noqa: S606 - an argument list, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
