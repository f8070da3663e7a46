"""Running apt where other things use it too: locks waited for, downloads bounded, failing sources tolerated, refusals in apt's own words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlflow_onprem.core.errors import CommandFailed, NotVisible, OnPremError, Stalled
from mlflow_onprem.core.host import Host, Result
from mlflow_onprem.system import fetching

#: How long to wait for another apt or dpkg, in seconds; unattended-upgrades can take minutes.
LOCK_DEADLINE = 600.0
APT = [
    "apt-get", "-q", "-y",
    "-o", f"DPkg::Lock::Timeout={LOCK_DEADLINE:.0f}",
    "-o", "Dpkg::Options::=--force-confdef",
    "-o", "Dpkg::Options::=--force-confold",
    "-o", "Acquire::Retries=3",
]  # fmt: skip
#: A download that waits for a lock would look like one that stands still: there apt gives up at once, and we try again.
_AT_ONCE = ["-o", "DPkg::Lock::Timeout=0"]
#: needrestart is kept out altogether: its automatic mode would restart services that are not ours in the middle of an installation.
#: apt-listbugs would ask a person about bugs, and ends apt where it cannot reach Debian's bug tracker.
QUIET = {
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_SUSPEND": "1",
    "NEEDRESTART_MODE": "l",
    "APT_LISTCHANGES_FRONTEND": "none",
    "APT_LISTBUGS_FRONTEND": "none",
}
HINT = "run `sudo apt-get update && sudo apt-get install --fix-broken` by hand to see what apt minds"


@dataclass(frozen=True)
class Apt:
    """apt-get with options of its own; runs again as long as somebody else holds a lock that apt itself does not wait for."""

    host: Host
    options: tuple[str, ...] = ()

    def dpkg(self, argv: Sequence[str]) -> None:
        """Something that changes the system: never ended from outside for standing still."""
        self._waiting(lambda: self.host.run(argv, env=QUIET, timeout=3600, hint=HINT))

    def get(self, *words: str) -> None:
        """apt-get that installs or removes what is downloaded already."""
        self.dpkg([*APT, *self.options, *words])

    def update(self, wanted: Iterable[str]) -> None:
        """Fetch the lists. A source that fails is told and tolerated where every package that is wanted has a candidate all the same.

        Raises CommandFailed with apt's own lines.
        """
        try:
            said = self._fetch("update", tries=1)
        except Stalled as failed:
            self._tolerate(failed, self._one_by_one(), wanted)
        except CommandFailed as failed:
            self._tolerate(failed, complaints(failed.output) or [failed.message], wanted)
        else:
            for line in complaints(said.err):
                self.host.say(f"warning: a package source fails: {line}")

    def _tolerate(self, failed: CommandFailed, lines: Sequence[str], wanted: Iterable[str]) -> None:
        if is_locked(failed.output) or not all(candidates(self.host, wanted, self.options).values()):
            raise failed
        for line in lines:
            self.host.say(f"warning: a package source fails: {line}")
        if lines:
            self.host.say("warning: every package that is needed is known all the same, so this goes on; put that source right, or remove it")

    def _one_by_one(self) -> list[str]:
        """apt keeps nothing of an update that was ended: again, each file of sources alone, so that the others are not lost."""
        self.host.say("a server of apt's sources fell silent: fetching the lists of each file of sources by itself")
        lines = []
        for path in source_files(self.host) if not self.options else ():
            alone = {"Dir::Etc::sourcelist": path, "Dir::Etc::sourceparts": "/dev/null", "APT::Get::List-Cleanup": "false"}
            try:
                self._fetch(*(word for name, value in alone.items() for word in ("-o", f"{name}={value}")), "update", tries=1)
            except CommandFailed as failed:
                lines += [f"{path}: {line}" for line in (complaints(failed.output) or [failed.message.rpartition("` ")[2]])]
        return lines

    def download(self, packages: Iterable[str]) -> None:
        """Fetch what an installation of these needs into apt's cache, so that the installation itself waits for no server."""
        self._fetch("install", "--no-install-recommends", "--download-only", *packages)

    def _fetch(self, *words: str, tries: int = fetching.TRIES) -> Result:
        argv = [*APT, *_AT_ONCE, *self.options, *words]
        return self._waiting(lambda: fetching.run(self.host, argv, env=QUIET, hint=HINT, names=servers(self.host), tries=tries))

    def _waiting(self, act: Callable[[], Result]) -> Result:
        deadline, told = time.monotonic() + LOCK_DEADLINE, False
        while True:
            try:
                return act()
            except CommandFailed as failed:
                if not is_locked(failed.output) or time.monotonic() > deadline:
                    raise
                if not told:
                    self.host.say(f"another program is using apt; waiting up to {LOCK_DEADLINE / 60:.0f} minutes for it to finish")
                    told = True
            time.sleep(1)


def obstacle(host: Host, packages: Sequence[str], options: Sequence[str] = (), *, fresh: bool = True) -> OnPremError | None:
    """Why apt would not install these, in its own words; None where it would. Changes nothing.

    `fresh`: its lists are new enough to be believed; old ones prove nothing but pins and holds.
    """
    result = host.run(["apt-get", "-q", "-y", *options, "--simulate", "install", "--no-install-recommends", *packages], env=QUIET, ok=range(256))
    if result.code == 0 or is_locked(result.err):
        return None
    reason = refusal(f"{result.out}\n{result.err}")
    held = [name for name in host.run(["apt-mark", "showhold"], ok=range(256)).out.split() if re.search(rf"\b{re.escape(name)}\b", reason)]
    pinned = [name for name, version in candidates(host, packages, options).items() if version is None and name in reason]
    files = _pins(host, pinned) if pinned else []
    if not held and not files and (not fresh or "Unable to locate package" in reason):
        return None  # fetching the lists may change that
    ways = []
    if files:
        ways.append(f"a pin forbids {', '.join(pinned)}: look into {', '.join(files)} (`apt-cache policy {pinned[0]}` shows what counts)")
    if held:
        ways.append(f"these packages are held back: {', '.join(held)}; `sudo apt-mark unhold {' '.join(held)}` releases them")
    ways.append(f"`apt-get --simulate install {' '.join(packages)}` shows the same and changes nothing")
    return OnPremError(f"apt cannot install {', '.join(packages)}", "; ".join(ways), reason)


def refusal(text: str) -> str:
    """What apt says about packages that it cannot install: the unmet dependencies and its errors."""
    kept, within = [], False
    for line in text.splitlines():
        within = line.startswith("The following packages have unmet dependencies") or (within and line.startswith(" "))
        if within or line.startswith("E: "):
            kept.append(line.rstrip())
    return "\n".join(kept) or text.strip()


def complaints(output: str) -> list[str]:
    """The lines in which `apt-get update` says what is wrong with a source."""
    found = [re.sub(r"^[EW]: ", "", line) for line in output.splitlines() if line.startswith(("E: ", "W: "))]
    needless = ("Some index files failed", "Updating from such a repository", "See apt-secure", "Target ")
    return list(dict.fromkeys(line for line in found if not line.startswith(needless)))


def candidates(host: Host, packages: Iterable[str], options: Sequence[str] = ()) -> dict[str, str | None]:
    """The version apt would install of each, None where it knows none or may not take one."""
    wanted = tuple(packages)
    try:
        found = parse_apt_policies(host.run(["apt-cache", *options, "policy", *wanted]).out)
    except (CommandFailed, NotVisible):
        found = {}
    return {name: found.get(name) for name in wanted}


def candidate(host: Host, package: str) -> str | None:
    """The version apt would install, or None where it knows none."""
    return candidates(host, [package])[package]


def parse_apt_policies(text: str) -> dict[str, str | None]:
    """Package -> candidate, from `apt-cache policy` of several."""
    found: dict[str, str | None] = {}
    name = ""
    for line in text.splitlines():
        if line and not line.startswith(" "):
            name = line.rstrip(":").partition(":")[0]
        key, _, value = line.strip().partition(": ")
        if key == "Candidate":
            found[name] = None if value == "(none)" else value
    return found


def source_files(host: Host) -> list[str]:
    """The files in which apt's sources stand."""
    names = [name for name in host.listdir("/etc/apt/sources.list.d") if name.endswith((".list", ".sources"))]
    first = ["/etc/apt/sources.list"] if host.stat("/etc/apt/sources.list") is not None else []
    return [*first, *(f"/etc/apt/sources.list.d/{name}" for name in names)]


def servers(host: Host) -> list[str]:
    """The names of the servers in apt's list of sources."""
    text = "\n".join((host.read(path) or b"").decode(errors="replace") for path in source_files(host))
    return sorted({name for url in re.findall(r"https?://\S+", text) if (name := urlsplit(url).hostname)})


def _pins(host: Host, packages: Sequence[str]) -> list[str]:
    """The files of apt's preferences that speak of these packages, or of all."""
    files = ["/etc/apt/preferences", *(f"/etc/apt/preferences.d/{name}" for name in host.listdir("/etc/apt/preferences.d"))]
    found = []
    for path in files:
        text = (host.read(path) or b"").decode(errors="replace")
        words = {word for line in re.findall(r"(?im)^Package:(.*)$", text) for word in line.split()}
        if any(_covers(word, package) for word in words for package in packages):
            found.append(path)
    return found


def _covers(pattern: str, package: str) -> bool:
    if pattern.startswith("/") and pattern.endswith("/"):
        return True  # a regular expression: named rather than judged
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), package) is not None


def is_locked(output: str) -> bool:
    """Whether apt or dpkg gave up because of a lock."""
    return any(
        sign in output
        for sign in ("Could not get lock", "Unable to lock directory", "Unable to acquire the dpkg frontend lock", "locked by another process")
    )
