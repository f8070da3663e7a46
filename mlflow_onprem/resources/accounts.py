"""System accounts that services run as."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.host import Host
from mlflow_onprem.resource import Base


@dataclass(frozen=True)
class SystemUserState:
    """An account nobody logs in to. The group has the same name."""

    home: str
    shell: str = "/usr/sbin/nologin"


@dataclass(frozen=True)
class SystemUser(Base):
    """A system user with a group of the same name."""

    user: str
    want: SystemUserState | None

    @property
    def name(self) -> str:
        return f"user:{self.user}"

    def observe(self, host: Host) -> SystemUserState | None:
        return parse_passwd((host.read("/etc/passwd") or b"").decode(), self.user)

    def apply(self, host: Host, have: SystemUserState | None) -> None:
        if self.want is None:
            host.run(["userdel", self.user])
        elif have is None:
            group = ["--gid", self.user] if _has_group(host, self.user) else ["--user-group"]
            host.run(["useradd", "--system", "--no-create-home", *group, "--home-dir", self.want.home, "--shell", self.want.shell, self.user])
        else:
            host.run(["usermod", "--home", self.want.home, "--shell", self.want.shell, self.user])


@dataclass(frozen=True)
class GroupState:
    """It exists."""

    name: str


@dataclass(frozen=True)
class SystemGroup(Base):
    """A group without an account of the same name."""

    group: str
    want: GroupState | None

    @property
    def name(self) -> str:
        return f"group:{self.group}"

    def observe(self, host: Host) -> GroupState | None:
        return GroupState(self.group) if _has_group(host, self.group) else None

    def apply(self, host: Host, have: GroupState | None) -> None:
        host.run(["groupdel", self.group] if self.want is None else ["groupadd", "--system", self.group])


def _has_group(host: Host, group: str) -> bool:
    return any(line.startswith(f"{group}:") for line in (host.read("/etc/group") or b"").decode().splitlines())


def parse_passwd(text: str, user: str) -> SystemUserState | None:
    """One account from the text of /etc/passwd."""
    for line in text.splitlines():
        fields = line.split(":")
        if fields[0] == user and len(fields) == 7:
            return SystemUserState(home=fields[5], shell=fields[6])
    return None
