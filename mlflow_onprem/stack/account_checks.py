"""The accounts that services run as: never a person's, never another program's; and they can get to the folders they need."""

from __future__ import annotations

from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.core.host import Host
from mlflow_onprem.resources.permissions import Way
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.facts import HOMES
from mlflow_onprem.settings.topology import LocalStore
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.system import accounts
from mlflow_onprem.system.accounts import Account

CONFIG = "/etc/mlflow-onprem/config.toml"
#: Where accounts without a home are said to live.
NOWHERE = ("/", "/nonexistent", "/dev/null", "/run", "/var/run", "")


def check(host: Host, assembly: Assembly) -> None:
    """Raises Refused, with nothing changed yet and the setting to change."""
    config = assembly.config
    services = [("mlflow", config.mlflow.user, "user" in config.mlflow.model_fields_set)]
    if isinstance(topology.store(config.minio), LocalStore):
        services.append(("minio", config.minio.user, "user" in config.minio.model_fields_set))
    for section, name, named in services:
        if name not in assembly.facts.users_before:
            continue  # it is not there yet, or install made it
        found = next((each for each in assembly.facts.accounts if each.name == name), None)
        if found is None:
            _check_group(host, section, name)
        elif reasons := why_not(host, found, named=named):
            raise Refused(
                f"the account {name} was on this host before, and it is a person's or another program's: {', '.join(reasons)}. "
                "MLflow's stack would run as it, and whoever uses it could read every secret and artifact",
                _lead_on(section, found),
            )
    for each in assembly.stack:
        if isinstance(each, Way):
            try:
                each.check_may_open(host)
            except OnPremError as barred:
                raise Refused(barred.message, barred.hint) from None


def why_not(host: Host, found: Account, *, named: bool) -> list[str]:
    """What speaks against running a service as this account; empty where nothing does.

    `named`: the configuration names it, so a number or a home like a person's is what the administrator knows about. One of a directory
    that is named is used whatever it looks like: its shell and number are the directory's business, and its password cannot be seen.
    """
    if found.home in HOMES and not found.may_log_in:
        return []  # as install makes them; or one that an earlier release took over
    if not found.local and named:
        return []
    reasons = []
    if found.may_log_in:
        reasons.append(f"it logs in with {found.shell or '/bin/sh'}")
    if found.local and accounts.has_password(host, found.name):
        reasons.append("it has a password")
    if named:
        return reasons
    if found.local and found.uid >= (first := accounts.uid_min(host)):
        reasons.append(f"its number is {found.uid} (people's begin at {first})")
    if found.home not in NOWHERE and host.listdir(found.home):
        reasons.append(f"its home {found.home} holds files")
    return reasons


def _check_group(host: Host, section: str, name: str) -> None:
    """A group of that name without an account of that name: a new account would join it."""
    group = accounts.look_group(host, name)
    if group is None:
        return
    first = accounts.uid_min(host)
    why = f"{', '.join(group.members)} belong to it" if group.members else f"its number is {group.gid}, and people's begin at {first}"
    if group.members or group.gid >= first:
        raise Refused(
            f"there is a group {name} on this host, and it is people's: {why}; they could read what is the service's alone",
            f'give the service an account of another name, which install makes: user = "{name}-server" in [{section}] of {CONFIG}',
        )


def _lead_on(section: str, found: Account) -> str:
    other = f'give the service an account of its own, which install makes: user = "{found.name.partition("@")[0]}-server" in [{section}] of {CONFIG}'
    if not found.local:
        return f'{other}; or, where {found.name} is the directory\'s account for this service, say so: user = "{found.name}" in [{section}]'
    return f"{other}; then run this again"
