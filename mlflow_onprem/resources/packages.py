"""Debian packages: one apt run for all, as on a server where other things use apt too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mlflow_onprem.errors import CommandFailed, NotVisible
from mlflow_onprem.host import Host
from mlflow_onprem.resource import Base
from mlflow_onprem.resources import bundle

#: How long to wait for another apt or dpkg, in seconds; unattended-upgrades can take minutes.
LOCK_DEADLINE = 600.0
#: Package lists older than this, in seconds, are fetched again before an installation.
LISTS_FRESH = 3600.0
APT = [
    "apt-get", "-q", "-y",
    "-o", f"DPkg::Lock::Timeout={LOCK_DEADLINE:.0f}",
    "-o", "Dpkg::Options::=--force-confdef",
    "-o", "Dpkg::Options::=--force-confold",
    "-o", "Acquire::Retries=3",
]  # fmt: skip
#: What was installed when an apt run of ours began (there only while it runs), and what such runs brought: a package a line.
#: bootstrap writes both too.
BEFORE = "/var/lib/mlflow-onprem/packages-before"
BROUGHT = "/var/lib/mlflow-onprem/packages-brought"
#: What is merely suggested or recommended by something else was not here before us, and that did without.
NEEDED_ALONE = ["-o", "APT::AutoRemove::SuggestsImportant=false", "-o", "APT::AutoRemove::RecommendsImportant=false"]
#: needrestart is kept out altogether: its automatic mode would restart services that are not ours in the middle of an installation.
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "NEEDRESTART_MODE": "l", "APT_LISTCHANGES_FRONTEND": "none"}
HINT = (
    "run `sudo apt-get update && sudo apt-get install --fix-broken` by hand to see what apt minds; behind a proxy set http_proxy, "
    "or apt's Acquire::http::Proxy"
)


@dataclass(frozen=True)
class AptPackagesState:
    """Which of the packages are fully installed, and whether it is written down what came with them."""

    installed: frozenset[str]
    recorded: bool = True


@dataclass(frozen=True)
class AptPackages(Base):
    """Packages that must be there. Wanted absent, those that were not there before us are purged, with what they alone needed."""

    packages: tuple[str, ...]
    want: AptPackagesState | None
    clock: Callable[[], float] = time.time

    @property
    def name(self) -> str:
        return f"packages:{','.join(self.packages)}"

    def observe(self, host: Host) -> AptPackagesState | None:
        found = installed(host, self.packages)
        if self.want is None:
            found &= brought(host)
        # A run that was killed between apt's end and the record is finished by the next one, before somebody else installs more.
        return AptPackagesState(found, self.want is None or host.read(BEFORE) is None) if found else None

    def apply(self, host: Host, have: AptPackagesState | None) -> None:
        with_lock = _Waiting(host)
        if host.run(["dpkg", "--audit"]).out.strip():
            host.say("dpkg was interrupted some time ago: finishing that first")
            with_lock.run(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"])
        if self.want is None:
            self._purge(host, with_lock)
            return
        if have is not None and have.installed == self.want.installed:
            record(host)
            return
        begin(host)
        apt = [*APT, *bundle.apt_options(host, self.packages)]
        if apt != APT or self._lists_are_old(host):
            with_lock.run([*apt, "update"])
        install = [*apt, "install", "--no-install-recommends", *self.packages]
        try:
            with_lock.run(install)
        except CommandFailed as failed:
            if "Unable to locate package" not in failed.output and "404" not in failed.output:
                raise
            with_lock.run([*apt, "update"])
            with_lock.run(install)
        record(host)

    def _purge(self, host: Host, with_lock: _Waiting) -> None:
        ours = brought(host)
        with_lock.run([*APT, "purge", *sorted(installed(host, self.packages) & ours)])
        # What apt itself now finds needless, as far as we brought it: what somebody else needs meanwhile stays.
        simulate = [*APT, *NEEDED_ALONE, "--simulate", "--purge", "autoremove"]
        needless = parse_simulation(host.run(simulate).out) & ours
        if needless:
            with_lock.run([*APT, "purge", *sorted(needless)])

    def _lists_are_old(self, host: Host) -> bool:
        lists = [name for name in host.listdir("/var/lib/apt/lists") if name.endswith(("Packages", "Packages.lz4", "Packages.gz"))]
        found = [host.stat(f"/var/lib/apt/lists/{name}") for name in lists]
        fetched = host.stat("/var/lib/apt/lists/partial")
        times = [each.mtime for each in (*found, fetched) if each is not None]
        return not lists or self.clock() - max(times) > LISTS_FRESH


def every(host: Host) -> frozenset[str]:
    """All installed packages."""
    return parse_dpkg_query(host.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\\n"]).out)


def begin(host: Host) -> None:
    """Note what is there before an apt run; a note that a killed run left behind is the older truth and stays."""
    if host.read(BEFORE) is None:
        host.write(BEFORE, _lines(every(host)), mode=0o644, owner="root", group="root")


def record(host: Host) -> None:
    """Note what has come since `begin`."""
    host.write(BROUGHT, _lines(brought(host)), mode=0o644, owner="root", group="root")
    host.remove(BEFORE)


def brought(host: Host) -> frozenset[str]:
    """Packages that came with us, those of a run that was killed included."""
    before, known = host.read(BEFORE), frozenset((host.read(BROUGHT) or b"").decode().split())
    return known if before is None else known | (every(host) - frozenset(before.decode().split()))


def parse_simulation(text: str) -> frozenset[str]:
    """The packages that `apt-get --simulate` would remove."""
    rows = (line.split() for line in text.splitlines())
    return frozenset(row[1] for row in rows if len(row) > 1 and row[0] in ("Remv", "Purg"))


def _lines(names: frozenset[str]) -> bytes:
    return "".join(f"{name}\n" for name in sorted(names)).encode()


def installed(host: Host, packages: tuple[str, ...]) -> frozenset[str]:
    """Which of these packages are fully installed. Raises NotVisible never, CommandFailed where there is no dpkg."""
    result = host.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\\n", *packages], ok=(0, 1))
    return parse_dpkg_query(result.out)


def parse_dpkg_query(text: str) -> frozenset[str]:
    """Package names with the state "ii" (wanted installed, is installed)."""
    rows = (line.split() for line in text.splitlines())
    return frozenset(row[0] for row in rows if len(row) >= 2 and row[1] == "ii")


def candidate(host: Host, package: str) -> str | None:
    """The version apt would install, or None where it knows none."""
    try:
        return parse_apt_policy(host.run(["apt-cache", "policy", package]).out)
    except (CommandFailed, NotVisible):
        return None


def parse_apt_policy(text: str) -> str | None:
    """The candidate of the one package in `apt-cache policy`."""
    for line in text.splitlines():
        key, _, value = line.strip().partition(": ")
        if key == "Candidate":
            return None if value == "(none)" else value
    return None


@dataclass(frozen=True)
class _Waiting:
    """Runs apt and dpkg again as long as somebody else holds a lock that apt itself does not wait for (the lists' lock)."""

    host: Host

    def run(self, argv: list[str]) -> None:
        deadline = time.monotonic() + LOCK_DEADLINE
        told = False
        while True:
            try:
                self.host.run(argv, env=QUIET, timeout=1800, hint=HINT)
                return
            except CommandFailed as failed:
                if not is_locked(failed.output) or time.monotonic() > deadline:
                    raise
                if not told:
                    self.host.say(f"another program is using apt; waiting up to {LOCK_DEADLINE / 60:.0f} minutes for it to finish")
                    told = True
            time.sleep(1)


def is_locked(output: str) -> bool:
    """Whether apt or dpkg gave up because of a lock."""
    return any(
        sign in output
        for sign in ("Could not get lock", "Unable to lock directory", "Unable to acquire the dpkg frontend lock", "locked by another process")
    )
