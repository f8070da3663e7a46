"""Who may read what is made: the same whatever the umask is; wrong ones are seen, and repaired without making anything anew."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.resource import compare
from mlflow_onprem.resources.environment import fingerprint, survey
from mlflow_onprem.resources.permissions import RIGHT, Way, WayState, fine, look, repair
from mlflow_onprem.system.local_host import LocalHost
from tests.fakes import FakeHost


@pytest.fixture
def hardened() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("hardened")
def test_folders_on_the_way_and_what_children_make_are_as_meant_under_any_umask(tmp_path: Path) -> None:
    host = LocalHost()
    host.mkdir(f"{tmp_path}/a/b/data", mode=0o750, owner="root", group="root")
    assert (mode(tmp_path / "a"), mode(tmp_path / "a/b"), mode(tmp_path / "a/b/data")) == (0o755, 0o755, 0o750)
    host.run(["mkdir", f"{tmp_path}/by-a-child"])
    with host.spawn(["touch", f"{tmp_path}/by-another"], with_input=False) as child:
        child.communicate()
    assert (mode(tmp_path / "by-a-child"), mode(tmp_path / "by-another")) == (0o755, 0o644)
    host.pipe(["echo", "a dump"], target=tmp_path / "dump")
    assert mode(tmp_path / "dump") == 0o600, "what may be secret is its owner's alone, under any umask too"


@pytest.mark.parametrize(
    ("about", "right"),
    [
        ("-rw-r--r-- root", True),
        ("-rwxr-xr-x root", True),
        ("drwxr-xr-x root", True),
        ("drwxr-sr-x root", True),
        ("lrwxrwxrwx root", True),
        ("drwx------ root", False),
        ("drwxr-x--- root", False),
        ("drw-r--r-- root", False),
        ("-rw------- root", False),
        ("-rw-rw-r-- root", False),
        ("-rw-r--rw- root", False),
        ("-rw-r--r-- alice", False),
    ],
)
def test_what_find_prints_is_right_or_not(about: str, right: bool) -> None:
    assert fine(about, by_root=True) is right


def test_a_tree_that_nobody_else_may_read_is_seen_and_repaired_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    host, folder = LocalHost(), tmp_path / "env"
    for name in ("lib/a.py", "lib/__pycache__/a.pyc", "bin/python"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")
    (folder / "bin/python").chmod(0o755)
    (folder / "link").symlink_to("/nowhere")
    host.run(["chmod", "-R", "u=rwX,go=rX", str(folder)])
    before = fingerprint(host, str(folder))
    assert (look(host, str(folder)), survey(host, str(folder))[1]) == (RIGHT, RIGHT)
    host.run(["chmod", "-R", "go=", str(folder)])
    shown = look(host, str(folder))
    assert shown.startswith("6 files or folders differ, the first is drwx------ of ")
    assert survey(host, str(folder)) == (before, shown.replace(f"{folder}/", f"{folder}/", 1)), "a mode is no change of content"
    repair(host, str(folder))
    assert look(host, str(folder)) == RIGHT
    assert survey(host, str(folder)) == (before, RIGHT)
    assert [mode(folder / each) for each in ("bin", "bin/python", "lib/a.py", "lib/__pycache__/a.pyc")] == [0o755, 0o755, 0o644, 0o644]


def host_with(*folders: tuple[str, int, str]) -> FakeHost:
    host = FakeHost()
    for path, bits, owner in folders:
        host.mkdir(path, mode=bits, owner=owner, group=owner)
    return host


def test_the_way_to_a_data_folder_is_opened_as_little_as_does_it() -> None:
    host = host_with(("/opt/minio", 0o700, "root"), ("/opt/minio/data", 0o750, "minio"))
    host.script(["id", "-u", "minio"], code=1)
    way = Way("/opt/minio/data", "minio")
    change = compare(way, way.observe(host))
    assert change is not None
    assert change.fields["barred"].have == "/opt/minio"
    way.apply(host, way.observe(host))
    assert way.observe(host) == WayState()
    assert host.nodes["/opt/minio"].mode == 0o755, "it holds nothing else: it was made for the data folder"
    assert host.nodes["/opt/minio/data"].mode == 0o750

    host = host_with(("/srv/private", 0o700, "root"), ("/srv/private/data", 0o750, "minio"), ("/srv/private/letters", 0o755, "root"))
    host.script(["id", "-u", "minio"], code=1)
    way = Way("/srv/private/data", "minio")
    way.apply(host, way.observe(host))
    assert host.nodes["/srv/private"].mode == 0o711, "it may be passed, and not be listed"


def test_somebody_elses_folder_is_not_opened_and_an_access_list_counts() -> None:
    host = host_with(("/home/alice", 0o700, "alice"), ("/home/alice/data", 0o750, "minio"))
    host.script(["id", "-u", "minio"], out="990\n")
    host.script(["test", "-x", "/home/alice"], code=1)
    way = Way("/home/alice/data", "minio")
    with pytest.raises(OnPremError, match=r"cannot get to /home/alice/data: /home/alice belongs to alice .* \(mode 0700\)") as caught:
        way.apply(host, way.observe(host))
    assert "setfacl -m u:minio:x /home/alice" in caught.value.hint
    host.script(["test", "-x", "/home/alice"])
    way.check_may_open(host)
    assert way.observe(host) == WayState()
