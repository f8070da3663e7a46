"""Waiting, locks and checksums, each written once."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from mlflow_onprem.core import wait
from mlflow_onprem.core.render import size
from mlflow_onprem.system import file_lock
from mlflow_onprem.system.file_lock import Taken
from mlflow_onprem.system.hashing import sha256_of


def test_it_is_asked_until_it_holds() -> None:
    answers = iter(["", "", "there"])
    assert wait.until(lambda: next(answers), 30, every=0) == "there"


def test_it_is_asked_once_even_where_there_is_no_time_and_then_given_up() -> None:
    asked: list[int] = []
    began = time.monotonic()
    assert wait.until(lambda: asked.append(1), 0) is None
    assert asked == [1]
    assert not wait.until(lambda: False, 0.05, every=0.01)
    assert time.monotonic() - began < 10


def test_a_lock_that_is_taken_says_by_whom_and_is_free_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with file_lock.held(path, "backup create"), pytest.raises(Taken, match=r"pid \d+: backup create"), file_lock.held(path, "gc"):
        pass
    with file_lock.held(path, "gc"):
        assert path.read_text().endswith(": gc")


def test_the_checksum_of_a_file_larger_than_a_chunk(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 3_000_000)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (3e9, "3.0 GB"), (4.2e12, "4.2 TB")]
)
def test_bytes_as_people_say_them(count: float, text: str) -> None:
    assert size(count) == text
