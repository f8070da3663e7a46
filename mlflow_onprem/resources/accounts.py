"""System accounts that services run as."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base
from mlflow_onprem.system import accounts, stopped


@dataclass(frozen=True)
class SystemUserState:
    """An account nobody logs in to. The group has the same name."""

    home: str
    shell: str = "/usr/sbin/nologin"


@dataclass(frozen=True)
class SystemUser(Base):
    """A system user with a group of the same name. `as_it_is`: it was here before us, or a directory has it, and nothing of it is changed."""

    user: str
    want: SystemUserState | None
    as_it_is: bool = False

    @property
    def name(self) -> str:
        return f"user:{self.user}"

    def observe(self, host: Host) -> SystemUserState | None:
        found = accounts.look(host, self.user)
        if found is None or (self.want is None and (self.as_it_is or not found.local)):
            return None
        return self.want if self.as_it_is or not found.local else SystemUserState(found.home, found.shell)

    def apply(self, host: Host, have: SystemUserState | None) -> None:
        if self.want is None:
            host.run(["userdel", self.user])
        elif have is None:
            group = ["--gid", self.user] if accounts.look_group(host, self.user) is not None else ["--user-group"]
            host.run(["useradd", "--system", "--no-create-home", *group, "--home-dir", self.want.home, "--shell", self.want.shell, self.user])
        else:
            host.run(["usermod", "--home", self.want.home, "--shell", self.want.shell, self.user])


@dataclass(frozen=True)
class HandOverState:
    """Whose a folder with data is."""

    owner: str


@dataclass(frozen=True)
class HandOver(Base):
    """A folder with data, of another account until now, is given to `account` with all that is in it; its service is stopped for that.

    Who owns the folder itself is looked at alone: `chown --recursive` changes that last, so one that was broken off is begun again.
    """

    path: str
    account: str
    group: str
    unit: str
    want: HandOverState | None

    @property
    def name(self) -> str:
        return f"hand-over:{self.path}"

    def observe(self, host: Host) -> HandOverState | None:
        found = host.stat(self.path)
        # Root's is no service's: somebody changed the folder alone, and that is put right without stopping anybody.
        return self.want if self.want is None or found is None or found.owner == "root" else HandOverState(found.owner)

    def apply(self, host: Host, have: HandOverState | None) -> None:
        if self.want is None:
            return
        stopped.stop(host, self.unit, ())
        host.run(["chown", "--recursive", "--no-dereference", f"{self.account}:{self.group}", self.path], timeout=86_400)


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
        return GroupState(self.group) if accounts.look_group(host, self.group) is not None else None

    def apply(self, host: Host, have: GroupState | None) -> None:
        host.run(["groupdel", self.group] if self.want is None else ["groupadd", "--system", self.group])
