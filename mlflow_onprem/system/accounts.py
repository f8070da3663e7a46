"""Accounts and groups as the system's name service knows them: /etc/passwd, and a directory (LDAP, Active Directory) behind SSSD or the like."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlflow_onprem.core.errors import CommandFailed
from mlflow_onprem.core.host import Host

#: What nobody logs in with.
NO_LOGIN = ("nologin", "false", "true", "sync", "halt", "shutdown")
#: Not to be found on a host without a name service's own tools, and then there is no directory either.
NOT_THERE = 127


@dataclass(frozen=True)
class Account:
    """An account; `group` is the name of its first group, `local` False where a directory has it."""

    name: str
    uid: int
    group: str
    home: str
    shell: str
    local: bool = True

    @property
    def may_log_in(self) -> bool:
        """Whether it has a shell that a person uses; an empty one means /bin/sh."""
        return self.shell.rpartition("/")[2] not in NO_LOGIN


@dataclass(frozen=True)
class Group:
    """A group and the accounts that are in it by its own entry."""

    name: str
    gid: int
    members: tuple[str, ...]
    local: bool = True


def look(host: Host, name: str) -> Account | None:
    """The account of that name, None where nobody knows it. /etc/passwd goes first: then nothing has to be started for it."""
    found = _entry(host, "passwd", name)
    if found is None:
        return None
    (entry, uid, gid, home, shell), local = (found[0][0], *found[0][2:4], *found[0][5:7]), found[1]
    group = look_group(host, gid)
    return Account(entry, int(uid), group.name if group is not None else gid, home, shell, local)


def look_group(host: Host, name: str) -> Group | None:
    """The group of that name, or of that number in digits; None where nobody knows it."""
    found = _entry(host, "group", name)
    if found is None:
        return None
    fields, local = found
    return Group(fields[0], int(fields[2]), tuple(each for each in fields[3].split(",") if each), local)


def uid_min(host: Host) -> int:
    """The first number of people's accounts here; below it are the system's."""
    found = re.search(rb"^UID_MIN\s+(\d+)", host.read("/etc/login.defs") or b"", re.MULTILINE)
    return int(found[1]) if found else 1000


def has_password(host: Host, name: str) -> bool:
    """Whether one can log in to a local account by password. Needs root."""
    for line in (host.read("/etc/shadow") or b"").decode(errors="replace").splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 1:
            return fields[1][:1] not in ("!", "*")
    return False


def _entry(host: Host, database: str, key: str) -> tuple[list[str], bool] | None:
    """The fields of an entry, and whether it stands in the file of this host."""
    at = 2 if key.isdigit() else 0
    length = {"passwd": 7, "group": 4}[database]
    for line in (host.read(f"/etc/{database}") or b"").decode(errors="replace").splitlines():
        fields = line.split(":")
        if len(fields) == length and fields[at] == key:
            return fields, True
    try:
        answer = host.run(["getent", database, key], ok=(0, 2)).out.strip()
    except CommandFailed as failed:
        if failed.code != NOT_THERE:
            raise
        return None
    fields = answer.split(":")
    return (fields, False) if len(fields) == length else None
