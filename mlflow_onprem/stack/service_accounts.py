"""The accounts that the services run as: made here, or used as they are where they were here before or a directory has them."""

from __future__ import annotations

from mlflow_onprem.core.resource import Mode, Resource, Text
from mlflow_onprem.resources.accounts import HandOver, HandOverState, SystemUser, SystemUserState
from mlflow_onprem.resources.files import Directory, DirectoryState, File, FileState
from mlflow_onprem.settings.facts import Facts

UNITS = "/etc/systemd/system"


def user(name: str, home: str, facts: Facts) -> SystemUser:
    """The account itself."""
    return SystemUser(name, SystemUserState(home=home), as_it_is=name in facts.users_before)


def hand_over(path: str, name: str, unit: str, facts: Facts) -> HandOver:
    """What the service wrote as another account, before the configuration named this one."""
    return HandOver(path, name, facts.group_of(name), unit, HandOverState(name))


def data_mode(name: str, facts: Facts) -> Mode:
    """Of a folder with data: its group may look, where that is the account's own; a directory's first group is often everybody's."""
    return Mode(0o750 if facts.group_of(name) == name else 0o700)


def drop_in(unit: str, name: str, default: str, facts: Facts) -> File:
    """What a unit has to say where its account is not the one that stands in it; otherwise no file."""
    path, group = f"{UNITS}/{unit}.d/account.conf", facts.group_of(name)
    if (name, group) == (default, default) and facts.is_local(name):
        return File(path, None)
    lines = ["# Written by mlflow-onprem: the account from config.toml."]
    if not facts.is_local(name):
        lines += [
            "[Unit]",
            "# A directory has it: it is known once SSSD or the like runs.",
            "Wants=nss-user-lookup.target",
            "After=nss-user-lookup.target",
        ]
    lines += ["[Service]", f"User={name}", f"Group={group}"]
    return File(path, FileState(Text("\n".join(lines) + "\n"), Mode(0o644), "root", "root"))


def wanted(*files: File) -> tuple[File, ...]:
    """Those files that there are to be: what a service runs on."""
    return tuple(file for file in files if file.want is not None)


def with_folder(*files: File) -> tuple[Resource, ...]:
    """The files of one unit, and the folder they need; with none of them the folder goes once it is empty."""
    folder = files[0].path.rpartition("/")[0]
    if all(each.want is None for each in files):
        return (*files, Directory(folder, None, shared=True))
    return (Directory(folder, DirectoryState(Mode(0o755), "root", "root"), shared=True), *files)
