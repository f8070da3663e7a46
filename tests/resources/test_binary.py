"""The store's program: unpacked from whatever a mirror offers, and known to be intact or not."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.resource import compare
from mlflow_onprem.resources.binary import BinaryState, Build, Download, PinnedBinary, unpack
from mlflow_onprem.system.local_host import LocalHost

ELF = b"\x7fELF and more"


def archive(*members: tuple[str, bytes, int]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content, mode in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        ELF,
        archive(("LICENSE", b"text", 0o644), ("silo", ELF, 0o755)),
        archive(("./README.md", b"text", 0o644), ("./minio", ELF, 0o755)),
        archive(("doc/run", b"#!/bin/sh", 0o755), ("server", ELF, 0o755)),
    ],
    ids=["program", "another name", "dot slash", "an executable deeper down"],
)
def test_the_program_is_found(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "download").write_bytes(content)
    unpack(tmp_path / "download", tmp_path / "minio", "minio")
    assert (tmp_path / "minio").read_bytes() == ELF
    assert sorted(each.name for each in tmp_path.iterdir()) == ["download", "minio"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"#!/bin/sh\necho hello\n", "neither a Linux program nor a .tar.gz"),
        (b"", "neither a Linux program nor a .tar.gz"),
        (b"PK\x03\x04 a zip", "neither a Linux program nor a .tar.gz"),
        (b"\x1f\x8b garbage", "cannot be unpacked|could not be written"),
        (archive(("silo", ELF * 1000, 0o755))[:-40], "cannot be unpacked"),
        (archive(("README", b"text", 0o644)), "holds no program at its root"),
        (archive(("bin/minio", ELF, 0o755)), "holds no program at its root"),
        (archive(), "holds no program at its root"),
    ],
    ids=["script", "empty", "zip", "no gzip", "cut short", "no program", "in a folder", "empty archive"],
)
def test_anything_else_is_refused_and_leaves_the_old_one(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "download").write_bytes(content)
    (tmp_path / "minio").write_bytes(b"the old one")
    with pytest.raises(OnPremError, match=says) as caught:
        unpack(tmp_path / "download", tmp_path / "minio", "minio")
    assert caught.value.hint
    assert (tmp_path / "minio").read_bytes() == b"the old one"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["download", "minio"]


@pytest.fixture
def binary(tmp_path: Path) -> tuple[LocalHost, PinnedBinary]:
    source = tmp_path / "source"
    source.write_bytes(ELF)
    download = Download(str(source), hashlib.sha256(ELF).hexdigest())
    host, wanted = LocalHost(tmp_path / "root"), PinnedBinary("/opt/store/v1", "minio", download, BinaryState(download.version))
    wanted.apply(host, wanted.observe(host))
    assert compare(wanted, wanted.observe(host)) is None
    return host, wanted


def test_a_program_that_was_changed_is_noticed_and_replaced(binary: tuple[LocalHost, PinnedBinary]) -> None:
    host, wanted = binary
    path = host.local(wanted.path)
    assert path.stat().st_mode & 0o777 == 0o755
    assert host.listdir("/opt/store/v1") == ["manifest.json", "minio"]
    path.write_bytes(ELF.replace(b"more", b"less"))
    change = compare(wanted, wanted.observe(host))
    assert change is not None
    assert (change.fields["intact"].have, change.fields["intact"].want) == ("no", "yes")
    wanted.apply(host, wanted.observe(host))
    assert path.read_bytes() == ELF
    assert compare(wanted, wanted.observe(host)) is None


def test_a_program_that_was_only_touched_is_still_intact(binary: tuple[LocalHost, PinnedBinary]) -> None:
    host, wanted = binary
    host.local(wanted.path).touch()
    assert compare(wanted, wanted.observe(host)) is None


def test_a_program_nobody_may_run_is_not_intact(binary: tuple[LocalHost, PinnedBinary]) -> None:
    host, wanted = binary
    host.local(wanted.path).chmod(0o644)
    assert compare(wanted, wanted.observe(host)) is not None


@pytest.mark.parametrize("damage", ["manifest", "program", "json", "keys"])
def test_without_manifest_or_program_it_is_made_anew(damage: str, binary: tuple[LocalHost, PinnedBinary]) -> None:
    host, wanted = binary
    manifest = host.local("/opt/store/v1/manifest.json")
    if damage == "json":
        manifest.write_text("{")
    elif damage == "keys":
        manifest.write_text("{}")
    else:
        (manifest if damage == "manifest" else host.local(wanted.path)).unlink()
    assert wanted.observe(host) is None
    wanted.apply(host, None)
    assert compare(wanted, wanted.observe(host)) is None


def test_a_wrong_sum_leaves_no_program_and_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(ELF)
    host, wanted = (
        LocalHost(tmp_path / "root"),
        PinnedBinary("/opt/store/v1", "minio", Download(str(tmp_path / "source"), "0" * 64), BinaryState("x")),
    )
    with pytest.raises(OnPremError, match="is not the file it should be"):
        wanted.apply(host, None)
    assert host.listdir("/opt/store/v1") == []
    assert wanted.observe(host) is None


def test_wanted_absent(binary: tuple[LocalHost, PinnedBinary]) -> None:
    host, wanted = binary
    PinnedBinary(wanted.directory, "minio", wanted.source, None).apply(host, wanted.observe(host))
    assert host.stat("/opt/store/v1") is None


def test_versions_in_words() -> None:
    assert Download("https://mirror.example/x", "ab" * 32).version == "sha256 abababababab"
    assert Build("v1.2.3").version == "source v1.2.3"
