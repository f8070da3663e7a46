"""The accounts that services run as: made here, a directory's, somebody's; what the lists want of each and what preflight says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlflow_onprem.core.errors import Refused
from mlflow_onprem.core.host import Result
from mlflow_onprem.core.resource import Text, compare
from mlflow_onprem.resources.accounts import HandOver, HandOverState, SystemUser, SystemUserState
from mlflow_onprem.resources.files import File
from mlflow_onprem.settings import facts
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.stack import account_checks as check
from mlflow_onprem.system import accounts
from mlflow_onprem.system.accounts import Account
from tests.fake_machine import CREDENTIALS, FACTS, Machine, config
from tests.fakes import Call, FakeHost

OURS = "mlflow:x:990:990::/var/lib/mlflow:/usr/sbin/nologin\n"
PERSON = "mlflow:x:1000:1000:Ms Flow:/home/mlflow:/bin/bash\n"
SERVICE = "svc-mlflow:*:70001:70000:Service:/home/svc-mlflow:/bin/bash"


def host_with(passwd: str = "", group: str = "", *, directory: str = "", directory_groups: str = "", shadow: str = "") -> FakeHost:
    """A host with these local entries and those of a directory behind NSS."""
    host = FakeHost()
    for path, text in (("/etc/passwd", passwd), ("/etc/group", group), ("/etc/shadow", shadow), ("/etc/login.defs", "UID_MIN\t\t 1000\n")):
        host.put(path, text)

    def getent(call: Call) -> Result:
        text, key = {"passwd": directory, "group": directory_groups}[call.argv[1]], call.argv[2]
        for line in text.splitlines():
            if key in (line.split(":")[0], line.split(":")[2]):
                return Result(0, f"{line}\n", "")
        return Result(2, "", "")

    host.programs["getent"] = getent
    return host


def facts_of(host: FakeHost, *users: str) -> Facts:
    names = users or facts.ACCOUNTS
    found = tuple(each for each in (accounts.look(host, name) for name in names) if each is not None)
    return dataclasses.replace(FACTS, accounts=found, users_before=facts._users_before(host, names, found))


@dataclasses.dataclass
class Assembled:
    config: Any
    facts: Facts
    stack: tuple[Any, ...] = ()


def refusal(host: FakeHost, values: dict[str, Any] | None = None) -> Refused | None:
    made = config(values or {})
    try:
        check.check(host, Assembled(made, facts_of(host, made.minio.user, made.mlflow.user)))  # type: ignore[arg-type]
    except Refused as refused:
        return refused
    return None


def test_the_name_service_is_asked_where_the_files_do_not_know() -> None:
    host = host_with(OURS, "mlflow:x:990:\n", directory=SERVICE, directory_groups="services:*:70000:ann,bob")
    assert accounts.look(host, "mlflow") == Account("mlflow", 990, "mlflow", "/var/lib/mlflow", "/usr/sbin/nologin")
    assert [call.argv for call in host.calls] == [], "nothing is started for an account of this host"
    assert accounts.look(host, "svc-mlflow") == Account("svc-mlflow", 70001, "services", "/home/svc-mlflow", "/bin/bash", local=False)
    assert accounts.look(host, "nobody-knows") is None
    assert accounts.look_group(host, "services") == accounts.Group("services", 70000, ("ann", "bob"), local=False)
    assert accounts.look(FakeHost(), "minio") is None, "a host without getent has no directory"


def test_a_person_is_refused_with_what_makes_them_one_and_the_setting_that_leads_on() -> None:
    host = host_with(PERSON, shadow="mlflow:$y$hash:1::::::\n")
    host.put("/home/mlflow/.ssh/authorized_keys", "key")
    refused = refusal(host)
    assert refused is not None
    for part in ("the account mlflow", "logs in with /bin/bash", "has a password", "its number is 1000", "/home/mlflow holds files"):
        assert part in refused.message
    assert 'user = "mlflow-server" in [mlflow] of /etc/mlflow-onprem/config.toml' in refused.hint
    assert refusal(host, {"mlflow": {"user": "mlflow-server"}}) is None
    assert refusal(host, {"mlflow": {"user": "mlflow"}}) is not None, "to name it does not make a person a service"


@pytest.mark.parametrize(
    ("passwd", "shadow", "why"),
    [
        ("minio:x:998:998::/home/minio:/usr/sbin/nologin\n", "", None),
        ("minio:x:998:998::/nonexistent:/bin/false\n", "minio:!:1::::::\n", None),
        ("minio:x:998:998::/var/lib/minio:\n", "", "logs in with /bin/sh"),
        ("minio:x:1001:1001::/nonexistent:/usr/sbin/nologin\n", "", "its number is 1001"),
        ("minio:x:998:998::/nonexistent:/usr/sbin/nologin\n", "minio:$6$hash:1::::::\n", "has a password"),
        ("minio:x:998:998::/srv/shop:/usr/sbin/nologin\n", "", "/srv/shop holds files"),
        ("minio:x:1001:1001::/var/lib/minio:/usr/sbin/nologin\n", "", None),
    ],
    ids=[
        "another's service account",
        "no home",
        "no shell named",
        "a number of people's",
        "a password",
        "a shop's",
        "taken over by an earlier release",
    ],
)
def test_each_mark_of_somebody_elses_account_counts(passwd: str, shadow: str, why: str | None) -> None:
    host = host_with(passwd, shadow=shadow)
    host.put("/srv/shop/index.html", "")
    refused = refusal(host)
    assert (refused is None) if why is None else (refused is not None and why in refused.message)


def test_a_directorys_account_that_is_named_is_used_as_it_is_and_never_changed_or_removed() -> None:
    host = host_with(directory=SERVICE, directory_groups="services:*:70000:ann,bob")
    assert refusal(host, {"mlflow": {"user": "svc-mlflow"}}) is None
    host = host_with(directory=SERVICE.replace("svc-mlflow", "mlflow"))
    refused = refusal(host)
    assert refused is not None, "one that merely has our name may be a person's"
    assert 'user = "mlflow" in [mlflow]' in refused.hint
    assert refusal(host, {"mlflow": {"user": "mlflow"}}) is None

    user = SystemUser("mlflow", SystemUserState("/var/lib/mlflow"), as_it_is=True)
    assert compare(user, user.observe(host)) is None
    gone: Any = dataclasses.replace(user, want=None)
    assert gone.observe(host) is None, "uninstall does not touch it"


def test_a_group_of_people_with_our_name_is_refused_where_the_account_would_join_it() -> None:
    refused = refusal(host_with("", "mlflow:x:970:ann,bob\n"))
    assert refused is not None
    assert "ann, bob belong to it" in refused.message
    assert 'user = "mlflow-server"' in refused.hint
    assert refusal(host_with(directory_groups="minio:*:70002:")) is not None
    assert refusal(host_with("", "mlflow:x:970:\n")) is None, "a package's leftover is nobody's"
    assert refusal(host_with(OURS, "mlflow:x:990:ann\n")) is None, "whom an administrator lets look at our files is their business"


def test_what_was_here_before_is_what_the_note_says_and_what_was_named_since() -> None:
    host = host_with(OURS + PERSON.replace("mlflow", "ann"), "mlflow:x:990:\n", directory=SERVICE)
    assert facts_of(host).users_before == ("mlflow",)
    host.put(facts.USERS_NOTE, "")
    assert facts_of(host).users_before == (), "install made it"
    assert facts_of(host, "minio", "svc-mlflow").users_before == ("svc-mlflow",)
    assert facts_of(host, "minio", "ann").users_before == ("ann",)


def test_another_account_goes_through_everything_that_names_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    values = {"minio": {"user": "store"}, "mlflow": {"user": "svc@corp.example"}}
    directory = Account("svc@corp.example", 70001, "domain users", "/home/svc", "/bin/bash", local=False)
    found = dataclasses.replace(FACTS, accounts=(directory,), users_before=("svc@corp.example",))
    stack = machine.stack(machine.config(values), CREDENTIALS, found)
    files = {each.path: each.want for each in stack if isinstance(each, File) and each.want is not None}
    texts = {path: each.content.value for path, each in files.items() if isinstance(each.content, Text)}
    units = "/etc/systemd/system"
    assert "User=store\nGroup=store\n" in texts[f"{units}/minio.service.d/account.conf"]
    assert "User=svc@corp.example\nGroup=domain users\n" in texts[f"{units}/mlflow.service.d/account.conf"]
    assert "After=nss-user-lookup.target" in texts[f"{units}/mlflow.service.d/account.conf"]
    assert {(each.owner, each.group) for path, each in files.items() if "/etc/mlflow-onprem/minio/" in path} == {("store", "store")}
    assert (files["/etc/mlflow-onprem/mlflow/auth.ini"].owner, files["/etc/mlflow-onprem/mlflow/auth.ini"].group) == ("root", "domain users")
    named = {path: each for path, each in files.items() if {each.owner, each.group} & {"minio", "mlflow"}}
    assert named == {}
    ident = next(each for each in stack if each.name.endswith("pg_ident.conf"))
    assert ident.want.content.value == 'mlflow-onprem  "svc@corp.example"  mlflow_user\n'
    assert {each.user for each in stack if hasattr(each, "user") and each.name.startswith("schema:")} == {"svc@corp.example"}


def test_a_folder_of_the_former_account_is_handed_over_with_its_service_stopped() -> None:
    host = FakeHost()
    host.mkdir("/opt/minio/data", mode=0o750, owner="minio", group="minio")
    handing = HandOver("/opt/minio/data", "store", "store", "minio.service", HandOverState("store"))
    for argv in (["systemctl", "stop", "minio.service"], ["chown", "--recursive", "--no-dereference", "store:store", "/opt/minio/data"]):
        host.script(argv)
    assert compare(handing, handing.observe(host)) is not None
    handing.apply(host, handing.observe(host))
    assert [call.argv[0] for call in host.calls] == ["systemctl", "chown"]
    assert compare(handing, HandOver("/nowhere", "store", "store", "minio.service", HandOverState("store")).observe(host)) is None


@pytest.mark.parametrize("name", ["root", "postgres", "nobody", "CORP\\svc", "two words", "-x", "a:b", ""])
def test_names_that_cannot_be_a_services_account(name: str) -> None:
    with pytest.raises(ValidationError):
        config({"mlflow": {"user": name}})


def test_both_services_have_accounts_of_their_own() -> None:
    with pytest.raises(ValidationError, match=r"minio\.user and mlflow\.user are both svc"):
        config({"mlflow": {"user": "svc"}, "minio": {"user": "svc"}})
