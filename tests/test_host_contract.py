"""What every host does, said once: the fake and the real one (below a temporary folder, as root or not) both pass."""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_onprem.core.errors import CommandFailed, OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.system.local_host import LocalHost
from tests.fakes import FakeHost

USER = pwd.getpwuid(os.geteuid()).pw_name
GROUP = grp.getgrgid(os.getegid()).gr_name
BOTH = ["echo", "two words"]
FAILS = ["sh", "-c", "echo to the left; echo to the right >&2; exit 3"]
QUIET_FAILS = ["sh", "-c", "echo only output; exit 4"]
CHATTY = ["sh", "-c", "for n in $(seq 1 50); do echo line $n; done >&2; exit 1"]
SHOW_ENV = ["sh", "-c", 'echo "$GIVEN"']


@pytest.fixture(params=["fake", "local"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """One of the two, with an empty folder /work on it."""
    made: Host
    if request.param == "local":
        made = LocalHost(tmp_path)
    else:
        made = fake = FakeHost(backing=tmp_path)
        fake.script(BOTH, out="two words\n")
        fake.script(FAILS, code=3, out="to the left\n", err="to the right\n")
        fake.script(QUIET_FAILS, code=4, out="only output\n")
        fake.script(CHATTY, code=1, err="".join(f"line {n}\n" for n in range(1, 51)))
        fake.programs["cat"] = lambda call: type(fake.scripted[tuple(BOTH)])(0, call.stdin or "", "")
        fake.programs["sh"] = lambda call: type(fake.scripted[tuple(BOTH)])(0, call.env.get("GIVEN", "") + "\n", "")
    made.mkdir("/work", mode=0o755, owner=USER, group=GROUP)
    return made


def write(host: Host, path: str, content: bytes = b"text", mode: int = 0o644) -> None:
    host.write(path, content, mode=mode, owner=USER, group=GROUP)


# files ---------------------------------------------------------------------------------------------------------------


def test_what_is_not_there(host: Host) -> None:
    assert host.read("/work/none") is None
    assert host.stat("/work/none") is None
    assert host.readlink("/work/none") is None
    assert host.listdir("/work/none") == []
    assert host.read("/work/none/below") is None
    write(host, "/work/file")
    assert host.read("/work/file/below") is None
    assert host.stat("/work/file/below") is None
    assert host.listdir("/work/file") == []
    assert host.readlink("/work/file") is None
    host.remove("/work/none")


def test_a_written_file_has_its_content_mode_and_owner(host: Host) -> None:
    write(host, "/work/file", b"\x00\xff bytes\n", 0o640)
    assert host.read("/work/file") == b"\x00\xff bytes\n"
    found = host.stat("/work/file")
    assert found is not None
    assert (found.kind, found.mode, found.owner, found.group, found.size) == ("file", 0o640, USER, GROUP, 9)
    assert found.mtime > 1_600_000_000
    assert found.changed_ns > 0


def test_a_file_is_replaced_with_all_of_its_attributes(host: Host) -> None:
    write(host, "/work/file", b"old and longer", 0o600)
    before = host.stat("/work/file")
    write(host, "/work/file", b"new", 0o644)
    after = host.stat("/work/file")
    assert host.read("/work/file") == b"new"
    assert before is not None
    assert after is not None
    assert (after.mode, after.size) == (0o644, 3)
    assert after.changed_ns != before.changed_ns
    assert host.listdir("/work") == ["file"]


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(host: Host) -> None:
    with pytest.raises(OnPremError, match="/work/none/file could not be written: No such file or directory"):
        write(host, "/work/none/file")
    host.mkdir("/work/folder", mode=0o755, owner=USER, group=GROUP)
    with pytest.raises(OnPremError, match="/work/folder could not be written: Is a directory"):
        write(host, "/work/folder")
    assert host.listdir("/work") == ["folder"]
    assert host.listdir("/work/folder") == []


def test_a_write_through_a_symlink_replaces_the_link(host: Host) -> None:
    write(host, "/work/target", b"target")
    host.symlink("/work/link", "target")
    write(host, "/work/link", b"file")
    assert host.read("/work/target") == b"target"
    found = host.stat("/work/link")
    assert found is not None
    assert found.kind == "file"


def test_directories(host: Host) -> None:
    host.mkdir("/work/a/b/c", mode=0o750, owner=USER, group=GROUP)
    with pytest.raises(OnPremError, match="/work/a is a folder, and a file is wanted there"):
        host.read("/work/a")
    found, parent = host.stat("/work/a/b/c"), host.stat("/work/a/b")
    assert found is not None
    assert parent is not None
    assert (found.kind, found.mode, found.owner, found.group) == ("directory", 0o750, USER, GROUP)
    assert (parent.kind, parent.mode) == ("directory", 0o755)
    write(host, "/work/a/b/c/file")
    host.mkdir("/work/a/b/c", mode=0o700, owner=USER, group=GROUP)
    again = host.stat("/work/a/b/c")
    assert again is not None
    assert again.mode == 0o700
    assert host.read("/work/a/b/c/file") == b"text"
    write(host, "/work/z")
    write(host, "/work/m")
    assert host.listdir("/work") == ["a", "m", "z"]
    with pytest.raises(OnPremError, match="/work/z could not be written: File exists"):
        host.mkdir("/work/z", mode=0o755, owner=USER, group=GROUP)


def test_attributes_change_and_content_stays(host: Host) -> None:
    write(host, "/work/file", b"text", 0o644)
    before = host.stat("/work/file")
    host.set_attributes("/work/file", mode=0o600, owner=USER, group=GROUP)
    after = host.stat("/work/file")
    assert before is not None
    assert after is not None
    assert (after.mode, after.mtime, host.read("/work/file")) == (0o600, before.mtime, b"text")
    assert after.changed_ns != before.changed_ns
    with pytest.raises(OnPremError, match="/work/none could not be written: No such file or directory"):
        host.set_attributes("/work/none", mode=0o600, owner=USER, group=GROUP)


def test_a_symlink_is_shown_as_such_and_switched_in_one_step(host: Host) -> None:
    host.mkdir("/work/one", mode=0o755, owner=USER, group=GROUP)
    host.symlink("/work/current", "one")
    host.symlink("/work/current", "two")
    assert host.readlink("/work/current") == "two"
    found = host.stat("/work/current")
    assert found is not None
    assert found.kind == "symlink"
    assert host.listdir("/work") == ["current", "one"]
    write(host, "/work/two", b"behind the link")
    assert host.read("/work/current") == b"behind the link"


def test_renaming_replaces_and_moves_folders_with_all_in_them(host: Host) -> None:
    write(host, "/work/new", b"new")
    write(host, "/work/old", b"old")
    host.rename("/work/new", "/work/old")
    assert host.read("/work/old") == b"new"
    assert host.read("/work/new") is None
    host.mkdir("/work/folder/inner", mode=0o755, owner=USER, group=GROUP)
    write(host, "/work/folder/inner/file", b"inside")
    host.rename("/work/folder", "/work/moved")
    assert host.read("/work/moved/inner/file") == b"inside"
    assert host.stat("/work/folder") is None
    with pytest.raises(OnPremError, match="/work/x could not be written: No such file or directory"):
        host.rename("/work/none", "/work/x")


def test_removing_a_file_a_link_and_a_whole_folder(host: Host) -> None:
    write(host, "/work/kept")
    host.symlink("/work/link", "kept")
    host.remove("/work/link")
    assert host.readlink("/work/link") is None
    assert host.read("/work/kept") == b"text"
    host.mkdir("/work/folder/inner", mode=0o755, owner=USER, group=GROUP)
    write(host, "/work/folder/inner/file")
    host.symlink("/work/to-folder", "folder")
    host.remove("/work/to-folder")
    assert host.read("/work/folder/inner/file") == b"text"
    host.remove("/work/folder")
    assert host.listdir("/work") == ["kept"]


def test_every_change_is_counted_and_no_look_is(host: Host) -> None:
    write(host, "/work/file")
    before = host.writes
    host.read("/work/file")
    host.stat("/work/file")
    host.listdir("/work")
    assert host.writes == before
    changes: tuple[Callable[[], None], ...] = (
        lambda: write(host, "/work/file", b"more"),
        lambda: host.set_attributes("/work/file", mode=0o600, owner=USER, group=GROUP),
        lambda: host.symlink("/work/link", "file"),
        lambda: host.rename("/work/link", "/work/other"),
        lambda: host.remove("/work/other"),
        lambda: host.mkdir("/work/folder", mode=0o755, owner=USER, group=GROUP),
    )
    for change in changes:
        change()
        assert host.writes > before
        before = host.writes


def test_the_real_files_behind_a_path(host: Host) -> None:
    write(host, "/work/file", b"text")
    assert host.local("/work/file").read_bytes() == b"text"
    host.local("/work/made").write_bytes(b"by other means")
    assert host.read("/work/made") == b"by other means"
    with pytest.raises(ValueError, match="not an absolute path"):
        host.local("work/file")


# programs ------------------------------------------------------------------------------------------------------------


def test_a_program_and_its_output(host: Host) -> None:
    found = host.run(BOTH)
    assert (found.code, found.out, found.err) == (0, "two words\n", "")
    assert host.run(["cat"], stdin="some\ninput").out == "some\ninput"
    assert host.run(["cat"], stdin=Secret("not shown")).out == "not shown"
    assert host.run(["cat"]).out == ""
    assert host.run(SHOW_ENV, env={"GIVEN": "a value"}).out == "a value\n"


def test_a_status_that_is_expected_is_no_failure(host: Host) -> None:
    found = host.run(FAILS, ok=(0, 3))
    assert (found.code, found.out, found.err) == (3, "to the left\n", "to the right\n")


def test_a_failure_says_what_a_person_would_type_and_how_it_ended(host: Host) -> None:
    with pytest.raises(CommandFailed) as caught:
        host.run(FAILS, hint="try the other thing")
    failed = caught.value
    assert failed.command == shlex.join(FAILS)
    assert str(failed) == f"`{shlex.join(FAILS)}` exited with status 3"
    assert (failed.code, failed.output, failed.hint) == (3, "to the right", "try the other thing")


def test_a_failure_without_an_error_text_shows_its_output_and_never_all_of_it(host: Host) -> None:
    with pytest.raises(CommandFailed) as caught:
        host.run(QUIET_FAILS)
    assert caught.value.output == "only output"
    with pytest.raises(CommandFailed) as caught:
        host.run(CHATTY)
    assert caught.value.output.splitlines() == [f"line {n}" for n in range(31, 51)]


def test_a_program_that_is_not_there(host: Host) -> None:
    with pytest.raises(CommandFailed) as caught:
        host.run(["no-such-program-here", "--secretly"])
    assert (caught.value.code, caught.value.output) == (127, "no-such-program-here: not found")


# the real one alone --------------------------------------------------------------------------------------------------


def test_a_program_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    with pytest.raises(CommandFailed) as caught:
        host.run(["sh", "-c", "echo begun; sleep 60 & wait"], timeout=0.3)
    assert (caught.value.code, caught.value.output, caught.value.hint) == (None, "begun", "it had 0 seconds")
    assert "did not finish in time" in str(caught.value)


def test_a_program_gets_a_small_environment_with_the_proxy_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADE_UP_TOKEN", "not for children")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    out = LocalHost(tmp_path).run(["env"], env={"EXTRA": "1"}).out
    names = {line.partition("=")[0] for line in out.splitlines()}
    assert "MADE_UP_TOKEN" not in names
    assert {"PATH", "LC_ALL", "HOME", "https_proxy", "EXTRA"} <= names


def test_a_file_has_its_mode_and_owner_before_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at when they are set, not later: whoever may open the file then would already read what is in it."""
    sizes: dict[str, list[int]] = {"fchmod": [], "chown": []}

    def fchmod(descriptor: int, mode: int, real: Callable[[int, int], None] = os.fchmod) -> None:
        sizes["fchmod"].append(os.fstat(descriptor).st_size)
        real(descriptor, mode)

    def chown(_host: LocalHost, target: int | Path, _owner: str, _group: str) -> None:
        sizes["chown"].append(os.fstat(target).st_size if isinstance(target, int) else -1)

    host = LocalHost(tmp_path)
    host.mkdir("/d", mode=0o755, owner=USER, group=GROUP)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fchmod", fchmod)
        patch.setattr(LocalHost, "_chown", chown)
        # More than Python holds back before it writes.
        host.write("/d/file", b"secret" * 1_000_000, mode=0o640, owner=USER, group=GROUP)
    assert sizes == {"fchmod": [0], "chown": [0]}
    assert (tmp_path / "d" / "file").stat().st_mode & 0o777 == 0o640


def test_a_write_that_dies_in_the_middle_leaves_neither_half_nor_stray_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    host = LocalHost(tmp_path)
    host.mkdir("/d", mode=0o755, owner=USER, group=GROUP)
    host.write("/d/file", b"old", mode=0o600, owner=USER, group=GROUP)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(OnPremError, match="could not be written: No space left on device") as caught:
            host.write("/d/file", b"new", mode=0o640, owner=USER, group=GROUP)
    assert "df -h" in caught.value.hint
    assert host.listdir("/d") == ["file"]
    assert host.read("/d/file") == b"old"


def test_the_second_stop_ends_running_programs(tmp_path: Path) -> None:
    host = LocalHost(tmp_path)
    child = host.spawn([sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"])
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    host.stop_children()
    assert child.wait(10) == -15
    child.communicate()
