"""Files, directories, symlinks and blocks: absent, equal, different, wanted absent."""

from __future__ import annotations

from typing import Any

import pytest

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.resource import Mode, Resource, Text, compare
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.accounts import SystemUser, SystemUserState
from mlflow_onprem.resources.files import BEGIN, BlockState, Directory, DirectoryState, File, FileState, MarkedBlock, Symlink, SymlinkState
from tests.fakes import FakeHost

FILE = File("/etc/x", FileState(Text("line\n"), Mode(0o644), "root", "root"))


def action(host: FakeHost, resource: Resource) -> str | None:
    change = compare(resource, resource.observe(host))
    return None if change is None else change.action


def settle(host: FakeHost, resource: Resource) -> None:
    resource.apply(host, resource.observe(host))
    assert action(host, resource) is None


def test_a_file_that_is_absent_equal_different_and_wanted_absent() -> None:
    host = FakeHost()
    assert action(host, FILE) == "create"
    settle(host, FILE)
    host.put("/etc/x", "line\nanother\n")
    change = compare(FILE, FILE.observe(host))
    assert change is not None
    assert (change.action, set(change.fields), change.fields["content"].diff[-1]) == ("update", {"content"}, "-another")
    settle(host, FILE)
    gone = File("/etc/x", None)
    assert action(host, gone) == "delete"
    settle(host, gone)
    assert host.read("/etc/x") is None


@pytest.mark.parametrize(
    ("mode", "owner", "group", "field"), [(0o600, "root", "root", "mode"), (0o644, "me", "root", "owner"), (0o644, "root", "me", "group")]
)
def test_attributes_alone_do_not_rewrite_a_file(mode: int, owner: str, group: str, field: str) -> None:
    host = FakeHost()
    host.put("/etc/x", "line\n", mode, owner, group)
    change = compare(FILE, FILE.observe(host))
    assert change is not None
    assert set(change.fields) == {field}
    settle(host, FILE)
    assert host.log == ["attributes /etc/x"]


def test_a_secret_file_shows_neither_of_its_contents() -> None:
    host = FakeHost()
    host.put("/etc/x", "old CANARY", 0o600)
    secret = File("/etc/x", FileState(Secret("new CANARY"), Mode(0o600), "root", "root"))
    change = compare(secret, secret.observe(host))
    assert "CANARY" not in repr(change)
    settle(host, secret)
    assert host.read("/etc/x") == b"new CANARY"


def test_something_else_in_the_files_place() -> None:
    host = FakeHost()
    host.symlink("/etc/x", "elsewhere")
    assert action(host, FILE) == "update"
    settle(host, FILE)
    host = FakeHost()
    host.mkdir("/etc/x", mode=0o755, owner="root", group="root")
    with pytest.raises(OnPremError, match="is a directory, but a file must be there") as caught:
        FILE.apply(host, FILE.observe(host))
    assert caught.value.hint == "move it away: mv /etc/x /etc/x.old"


def test_a_directory() -> None:
    host, wanted = FakeHost(), Directory("/srv/a/b", DirectoryState(Mode(0o750), "root", "root"))
    assert action(host, wanted) == "create"
    settle(host, wanted)
    host.put("/srv/a/b/kept", "content")
    host.set_attributes("/srv/a/b", mode=0o777, owner="root", group="root")
    assert action(host, wanted) == "update"
    settle(host, wanted)
    assert host.read("/srv/a/b/kept") == b"content"
    settle(host, Directory("/srv/a/b", None))
    host.put("/srv/a/b", "a file")
    # The plan goes on and says so; install does not remove it, and neither does uninstall.
    change = compare(wanted, wanted.observe(host))
    assert change is not None
    assert (change.action, change.fields["kind"].have, change.fields["kind"].want) == ("update", "file", "directory")
    with pytest.raises(OnPremError, match="is a file, but a directory must be there") as caught:
        wanted.apply(host, wanted.observe(host))
    assert caught.value.hint == "move it away: mv /srv/a/b /srv/a/b.old"
    assert action(host, Directory("/srv/a/b", None)) is None
    assert "kind" not in getattr(compare(wanted, None), "fields", {"kind"})


def test_a_symlink() -> None:
    host, wanted = FakeHost(), Symlink("/opt/current", SymlinkState("v2"))
    assert action(host, wanted) == "create"
    host.symlink("/opt/current", "v1")
    assert action(host, wanted) == "update"
    settle(host, wanted)
    assert host.readlink("/opt/current") == "v2"
    settle(host, Symlink("/opt/current", None))


def test_a_block_keeps_the_owner_and_the_rest_of_the_file() -> None:
    host, wanted = FakeHost(), MarkedBlock("/etc/hba", BlockState(Text("ours\n")))
    host.put("/etc/hba", b"theirs \xff\n", 0o640, "postgres", "postgres")
    assert action(host, wanted) == "create"
    settle(host, wanted)
    found = host.stat("/etc/hba")
    assert found is not None
    assert (found.mode, found.owner) == (0o640, "postgres")
    content = host.read("/etc/hba")
    assert content is not None
    assert content.startswith(BEGIN.encode())
    assert content.endswith(b"theirs \xff\n")
    settle(host, MarkedBlock("/etc/hba", None))
    assert host.read("/etc/hba") == b"theirs \xff\n"


def test_a_block_of_a_file_that_is_missing() -> None:
    host, wanted = FakeHost(), MarkedBlock("/etc/hba", BlockState(Text("ours\n")))
    with pytest.raises(OnPremError, match="/etc/hba is missing") as caught:
        wanted.apply(host, None)
    assert "reinstall" in caught.value.hint
    MarkedBlock("/etc/hba", None).apply(host, None)
    assert host.read("/etc/hba") is None


@pytest.mark.parametrize(
    ("passwd", "group", "argv"),
    [
        ("", "", "useradd --system --no-create-home --user-group --home-dir /var/lib/m --shell /usr/sbin/nologin m"),
        ("", "m:x:5:\n", "useradd --system --no-create-home --gid m --home-dir /var/lib/m --shell /usr/sbin/nologin m"),
        ("m:x:5:5::/home/m:/bin/sh\n", "m:x:5:\n", "usermod --home /var/lib/m --shell /usr/sbin/nologin m"),
    ],
)
def test_an_account(passwd: str, group: str, argv: str) -> None:
    host, wanted = FakeHost(), SystemUser("m", SystemUserState("/var/lib/m"))
    host.put("/etc/passwd", passwd)
    host.put("/etc/group", group)
    host.script(argv.split())
    wanted.apply(host, wanted.observe(host))
    assert [" ".join(call.argv) for call in host.calls if call.argv[0] != "getent"] == [argv]


def test_an_account_as_wanted_and_wanted_absent() -> None:
    host = FakeHost()
    host.put("/etc/passwd", "m:x:5:5::/var/lib/m:/usr/sbin/nologin\n")
    assert action(host, SystemUser("m", SystemUserState("/var/lib/m"))) is None
    host.script(["userdel", "m"])
    gone: Any = SystemUser("m", None)
    gone.apply(host, gone.observe(host))
    assert host.calls[-1].argv == ("userdel", "m")
