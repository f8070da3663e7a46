"""One pinned program: downloaded and checked, or built from source, kept under a folder of its version."""

from __future__ import annotations

import json
import shutil
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base
from mlflow_onprem.resources import permissions
from mlflow_onprem.system import bundle, minio_source
from mlflow_onprem.system.download import fetch
from mlflow_onprem.system.hashing import sha256_of


@dataclass(frozen=True)
class Download:
    """A file by address and sha256: the program itself, or a .tar.gz with it at its root."""

    url: str
    sha256: str

    @property
    def version(self) -> str:
        return f"sha256 {self.sha256[:12]}"


@dataclass(frozen=True)
class Build:
    """The vendor's documented `go install`, pinned to one version."""

    module_version: str

    @property
    def version(self) -> str:
        return f"source {self.module_version}"


@dataclass(frozen=True)
class BinaryState:
    """Which version is there, whether it is still byte for byte what was put there, and who may run it."""

    version: str
    intact: bool = True
    permissions: str = permissions.RIGHT


@dataclass(frozen=True)
class PinnedBinary(Base):
    """`directory`/`program`, with a manifest beside it that says where it came from and what it hashes to."""

    directory: str
    program: str
    source: Download | Build
    want: BinaryState | None

    @property
    def name(self) -> str:
        return f"binary:{self.directory}/{self.program}"

    @property
    def path(self) -> str:
        return f"{self.directory}/{self.program}"

    def observe(self, host: Host) -> BinaryState | None:
        text, found = host.read(f"{self.directory}/manifest.json"), host.stat(self.path)
        if text is None or found is None:
            return None
        try:
            manifest: dict[str, str | int] = json.loads(text)
            version, sha256, seen = str(manifest["version"]), manifest["sha256"], manifest["changed_ns"]
        except (ValueError, KeyError):
            return None
        # The inode's change time cannot be set by hand, so an unchanged one saves reading 150 MB at every look.
        intact = found.kind == "file" and (found.changed_ns == seen or sha256_of(host.local(self.path)) == sha256)
        return BinaryState(version, intact, self._permissions(host))

    def _permissions(self, host: Host) -> str:
        for path in (self.directory, self.path):
            found = host.stat(path)
            if found is not None and (found.mode, found.owner) != (0o755, "root" if host.is_root else found.owner):
                return f"{path} is {found.mode:04o} of {found.owner}"
        return permissions.RIGHT

    def apply(self, host: Host, have: BinaryState | None) -> None:
        if self.want is None:
            host.remove(self.directory)
            return
        host.mkdir(self.directory, mode=0o755, owner="root", group="root")
        if have is not None and replace(have, permissions=permissions.RIGHT) == self.want:
            host.set_attributes(self.path, mode=0o755, owner="root", group="root")
            self._write_manifest(host, self.want.version, str(json.loads(host.read(f"{self.directory}/manifest.json") or b"{}")["sha256"]))
            return
        target = host.local(self.path)
        host.remove(f"{self.directory}/manifest.json")
        for name in host.listdir(self.directory):
            # What a download left that was killed.
            if name != self.program:
                host.remove(f"{self.directory}/{name}")
        if isinstance(self.source, Build):
            minio_source.build(host, self.path, version=self.source.module_version)
        else:
            self._download(host, self.source, target)
        host.set_attributes(self.path, mode=0o755, owner="root", group="root")
        self._write_manifest(host, self.want.version, sha256_of(target))

    def _write_manifest(self, host: Host, version: str, sha256: str) -> None:
        found = host.stat(self.path)
        assert found is not None
        manifest = {"version": version, "sha256": sha256, "changed_ns": found.changed_ns}
        host.write(f"{self.directory}/manifest.json", (json.dumps(manifest, indent=1) + "\n").encode(), mode=0o644, owner="root", group="root")

    def _download(self, host: Host, source: Download, target: Path) -> None:
        archive = target.with_name(f"{self.program}.download")
        kept = bundle.program(host, source.sha256)
        try:
            fetch(kept or source.url, archive, source.sha256, lambda done, total: host.progress(self.name, done, total))
            unpack(archive, target, self.program)
        finally:
            archive.unlink(missing_ok=True)


def unpack(archive: Path, target: Path, program: str) -> None:
    """Put the program to `target`: the file itself, or the one executable at the root of a .tar.gz (whatever its name).

    Raises OnPremError where the file is neither a program nor such an archive.
    """
    with archive.open("rb") as file:
        magic = file.read(4)
    temporary = target.with_name(f".{target.name}.new")
    try:
        if magic == b"\x7fELF":
            shutil.copyfile(archive, temporary)
        elif magic[:2] == b"\x1f\x8b":
            _extract(archive, temporary, program)
        else:
            raise OnPremError(
                f"the download for {target} is neither a Linux program nor a .tar.gz with one", "check `url` in [minio] of the configuration"
            )
        temporary.replace(target)
    except (tarfile.TarError, EOFError) as broken:
        raise OnPremError(f"the archive for {target} cannot be unpacked: {broken}", "check `url` in [minio] of the configuration") from broken
    except OSError as failed:
        raise OnPremError(f"{target} could not be written: {failed.strerror}", "free some space, then run the same command again") from failed
    finally:
        temporary.unlink(missing_ok=True)


def _extract(archive: Path, target: Path, program: str) -> None:
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if member.isfile() and "/" not in member.name.removeprefix("./") and member.mode & 0o111:
                source = tar.extractfile(member)
                assert source is not None
                with target.open("wb") as file:
                    shutil.copyfileobj(source, file)
                return
    raise OnPremError(f"the archive holds no program at its root that could be {program}", "check `url` in [minio] of the configuration")
