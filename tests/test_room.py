"""A full disk, of bytes or of inodes, is called that: by preflight, status, doctor, and by whatever fails of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlflow_onprem.core.errors import CommandFailed, ConfigError, Refused
from mlflow_onprem.core.host import Result
from mlflow_onprem.stack import disk_space, health
from mlflow_onprem.stack.disk_space import Room, check, explained, look
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.system.systemd import Systemd
from tests.fakes import FakeHost

GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "inodes", "free_inodes", "holds_objects", "full"),
    [
        (GIB, 1000_000, 500_000, False, False),
        (15 << 20, 1000_000, 500_000, False, True),
        (GIB, 1000_000, 99, False, True),
        (GIB, 1000_000, 999, False, False),
        (GIB, 1000_000, 999, True, True),
        (GIB - 1, 1000_000, 500_000, True, True),
        (GIB, 0, 0, True, False),
    ],
    ids=["room", "no bytes", "no inodes", "few inodes", "too few for the store", "99 % for the store", "inodes without a number (btrfs)"],
)
def test_what_is_full(free: int, inodes: int, free_inodes: int, holds_objects: bool, full: bool) -> None:
    assert Room("/d", "/", 100 * GIB, free, inodes, free_inodes, holds_objects).full is full


@pytest.fixture
def used_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Takes all inodes from the filesystem below a path."""

    def take(path: str) -> None:
        real = os.statvfs

        def statvfs(of: Path) -> object:
            found = real(of)
            free = 0 if str(of).startswith(path) else found.f_favail
            return SimpleNamespace(f_blocks=found.f_blocks, f_frsize=found.f_frsize, f_bavail=1 << 30, f_files=1024, f_favail=free)

        monkeypatch.setattr(os, "statvfs", statvfs)

    return take


def test_folders_are_looked_at_once_a_filesystem_and_where_they_will_be_made(tmp_path: Path, used_up: Callable[[str], None]) -> None:
    host = LocalHost(tmp_path)
    (tmp_path / "var").mkdir()
    used_up(str(tmp_path))
    found = look(host, ("/var/lib/postgresql", "/var/lib/mlflow"), ("/opt/minio/data",))
    assert [(each.place, each.mount, each.holds_objects) for each in found] == [("/opt/minio/data", "/", True)]
    with pytest.raises(Refused, match=r"the disk is full: / has .* MiB and 0 of 1024 inodes free, and /opt/minio/data is on it") as caught:
        check(found)
    assert "df -i" in caught.value.hint


def test_whoever_fails_of_a_full_disk_says_so(tmp_path: Path, used_up: Callable[[str], None]) -> None:
    host = LocalHost(tmp_path)
    error = CommandFailed("systemctl start postgresql", 1, "could not write lock file", "see its log")
    assert explained(host, error).hint == "see its log"
    used_up(str(tmp_path))
    assert explained(host, error).hint.startswith("the disk is full: / has ")
    assert "sudo mlflow-onprem gc" in error.hint
    assert explained(host, ConfigError("wrong", "write it so")).hint == "write it so", "what was typed wrong has nothing to do with it"


def test_status_names_it_though_the_port_answers(tmp_path: Path, used_up: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHost(backing=tmp_path)
    fake.programs["systemctl"] = lambda _: Result(0, "Id=minio.service\nLoadState=loaded\nActiveState=active\n", "")
    systemd = Systemd(fake, ("minio.service",))
    monkeypatch.setattr(systemd, "host", LocalHost(tmp_path))
    probe = health.Probe("minio", "minio.service", 9000, lambda: "ready to read and write", (), ("/opt/minio/data",))
    assert health.look(systemd, [probe])[0].healthy
    used_up(str(tmp_path))
    (verdict,) = health.look(systemd, [probe])
    assert not verdict.healthy
    assert verdict.detail.startswith("the disk is full: / has ")
    assert disk_space.POSTGRES not in verdict.detail
