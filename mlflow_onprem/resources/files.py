"""Files, directories, symlinks, and one marked block in a file that is not ours."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base, Mode, Text
from mlflow_onprem.core.secret import Secret

BEGIN = "# >>> mlflow-onprem >>> (written by mlflow-onprem: edits between these lines are replaced)"
END = "# <<< mlflow-onprem <<<"


@dataclass(frozen=True)
class FileState:
    """A whole file of ours."""

    content: Text | Secret
    mode: Mode
    owner: str
    group: str


@dataclass(frozen=True)
class File(Base):
    """A file that is ours from the first byte to the last."""

    path: str
    want: FileState | None

    @property
    def name(self) -> str:
        return f"file:{self.path}"

    def observe(self, host: Host) -> FileState | None:
        found = host.stat(self.path)
        if found is None:
            return None
        if found.kind != "file":
            return FileState(Text(f"({found.kind})"), Mode(found.mode), found.owner, found.group)
        content = (host.read(self.path) or b"").decode(errors="replace")
        secret = self.want is not None and isinstance(self.want.content, Secret)
        return FileState(Secret(content) if secret else Text(content), Mode(found.mode), found.owner, found.group)

    def apply(self, host: Host, have: FileState | None) -> None:
        if self.want is None:
            host.remove(self.path)
            return
        content, mode, owner, group = self.want.content, self.want.mode.value, self.want.owner, self.want.group
        found = host.stat(self.path)
        if found is not None and found.kind == "directory":
            raise OnPremError(f"{self.path} is a directory, but a file must be there", f"move it away: mv {self.path} {self.path}.old")
        if have is not None and have.content == content and found is not None and found.kind == "file":
            host.set_attributes(self.path, mode=mode, owner=owner, group=group)
            return
        text = content.reveal() if isinstance(content, Secret) else content.value
        host.write(self.path, text.encode(), mode=mode, owner=owner, group=group)


@dataclass(frozen=True)
class DirectoryState:
    """What we manage of a directory, not what is in it."""

    mode: Mode
    owner: str
    group: str
    kind: str = field(default="directory", metadata={"implied": True})  # another one: something else has its place


@dataclass(frozen=True)
class Directory(Base):
    """A directory; what leads to it is made root-owned where it is missing.

    Wanted absent it goes with all that is in it; a `shared` one, where others keep things too, only once it is empty.
    """

    path: str
    want: DirectoryState | None
    shared: bool = field(default=False, kw_only=True)

    @property
    def name(self) -> str:
        return f"directory:{self.path}"

    def observe(self, host: Host) -> DirectoryState | None:
        found = host.stat(self.path)
        if found is None:
            return None
        if self.want is None and (found.kind != "directory" or (self.shared and host.listdir(self.path))):
            return None  # the directory that we made is gone; what stands there now is somebody else's
        return DirectoryState(Mode(found.mode), found.owner, found.group, found.kind)

    def apply(self, host: Host, have: DirectoryState | None) -> None:
        if self.want is None:
            host.remove(self.path)
        elif have is not None and have.kind != "directory":
            raise OnPremError(f"{self.path} is a {have.kind}, but a directory must be there", f"move it away: mv {self.path} {self.path}.old")
        else:
            host.mkdir(self.path, mode=self.want.mode.value, owner=self.want.owner, group=self.want.group)


@dataclass(frozen=True)
class SymlinkState:
    """Where a symlink points."""

    target: str


@dataclass(frozen=True)
class Symlink(Base):
    """A symlink, switched in one step."""

    path: str
    want: SymlinkState | None

    @property
    def name(self) -> str:
        return f"symlink:{self.path}"

    def observe(self, host: Host) -> SymlinkState | None:
        target = host.readlink(self.path)
        return None if target is None else SymlinkState(target)

    def apply(self, host: Host, have: SymlinkState | None) -> None:
        if self.want is None:
            host.remove(self.path)
        else:
            host.symlink(self.path, self.want.target)


@dataclass(frozen=True)
class BlockState:
    """The lines between our two marks."""

    content: Text


@dataclass(frozen=True)
class MarkedBlock(Base):
    """One block of ours, kept at the top (or, `last`, at the end) of a file that belongs to somebody else; nothing outside of it is touched."""

    path: str
    want: BlockState | None
    last: bool = field(default=False, kw_only=True)

    @property
    def name(self) -> str:
        return f"block:{self.path}"

    def observe(self, host: Host) -> BlockState | None:
        content = host.read(self.path)
        block = None if content is None else find_block(content.decode(errors="surrogateescape"), last=self.last)
        return None if block is None else BlockState(Text(block))

    def apply(self, host: Host, have: BlockState | None) -> None:
        found, content = host.stat(self.path), host.read(self.path)
        if found is None or content is None:
            if self.want is None:
                return
            raise OnPremError(f"{self.path} is missing", "it belongs to the package that owns the folder: reinstall that, then run this again")
        text = replace_block(content.decode(errors="surrogateescape"), None if self.want is None else self.want.content.value, last=self.last)
        host.write(self.path, text.encode(errors="surrogateescape"), mode=found.mode, owner=found.owner, group=found.group)


def find_block(text: str, *, last: bool = False) -> str | None:
    """The block's lines, or None. Where it is not in its place it does not count: pg_hba's first match wins, postgresql.conf's last line does."""
    block = re.escape(BEGIN) + r"\n(.*?)" + re.escape(END) + r"\n"
    match = re.search(block + r"\Z", text, re.DOTALL) if last else re.match(block, text, re.DOTALL)
    return None if match is None else match.group(1)


def replace_block(text: str, content: str | None, *, last: bool = False) -> str:
    """The text with our block at its top (`last`: at its end) replaced, added or (None) taken out; blocks left elsewhere in it go too."""
    rest = re.sub(re.escape(BEGIN) + r"\n.*?" + re.escape(END) + r"\n", "", text, flags=re.DOTALL)
    if content is None:
        return rest
    block = f"{BEGIN}\n{content}{END}\n"
    if last:
        return rest + ("\n" if rest and not rest.endswith("\n") else "") + block
    return block + rest
