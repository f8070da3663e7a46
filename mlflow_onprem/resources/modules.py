"""Our own few modules beside MLflow's environment: they change with this program, the environment with its lock."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base
from mlflow_onprem.resources import permissions


@dataclass(frozen=True)
class ModulesState:
    """A digest of all files' names and contents, and who may read and write them."""

    digest: str
    permissions: str = permissions.RIGHT


@dataclass(frozen=True)
class Modules(Base):
    """`files` (path below the folder -> text) in a folder of their own, with byte code for `python`."""

    directory: str
    files: Mapping[str, str]
    python: str
    want: ModulesState | None

    @property
    def name(self) -> str:
        return f"modules:{self.directory}"

    def observe(self, host: Host) -> ModulesState | None:
        if host.stat(self.directory) is None:
            return None
        found = {path: host.read(f"{self.directory}/{path}") for path in self.files}
        if any(content is None for content in found.values()):
            return ModulesState("incomplete")  # an empty file and a missing one are not the same
        digest = digest_of({path: (content or b"").decode(errors="replace") for path, content in found.items()})
        return ModulesState(digest, permissions.look(host, self.directory))

    def apply(self, host: Host, have: ModulesState | None) -> None:
        if self.want is None:
            host.remove(self.directory)
            return
        if have is not None and have.digest == self.want.digest:
            permissions.repair(host, self.directory)
            return
        # Made beside its place and moved there whole: a run that dies in between leaves nothing that looks finished.
        new = f"{self.directory}.new"
        host.remove(new)
        for path, text in self.files.items():
            host.mkdir(f"{new}/{path}".rpartition("/")[0], mode=0o755, owner="root", group="root")
            host.write(f"{new}/{path}", text.encode(), mode=0o644, owner="root", group="root")
        host.run([self.python, "-m", "compileall", "-q", "-s", new, "-p", self.directory, new])
        host.remove(self.directory)
        host.rename(new, self.directory)


def digest_of(files: Mapping[str, str]) -> str:
    """A short name for these files."""
    total = hashlib.sha256()
    for path, text in sorted(files.items()):
        total.update(f"{path}\0{len(text)}\0{text}\0".encode())
    return total.hexdigest()[:12]
