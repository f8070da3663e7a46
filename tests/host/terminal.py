"""A command on a terminal of its own, and somebody who types when he has read something. Runs inside a host, in its own Python.

Standard input: {"argv": [...], "typing": [[what to read first, what to type then], ...]}; prints what stood there, and ends as the command did.
"""

import json
import os
import pty
import sys

job = json.load(sys.stdin)
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(job["argv"][0], job["argv"])
shown, read = "", 0
typing = list(job["typing"])
while True:
    try:
        data = os.read(terminal, 4096)
    except OSError:  # the command has ended
        break
    if not data:
        break
    shown += data.decode(errors="replace")
    while typing and typing[0][0] in shown[read:]:
        expected, keys = typing.pop(0)
        read = shown.index(expected, read) + len(expected)
        os.write(terminal, keys.encode())
print(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
