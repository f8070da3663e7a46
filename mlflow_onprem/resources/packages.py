"""Debian packages: one apt run for all, as on a server where other things use apt too."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mlflow_onprem.core.errors import CommandFailed
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Base
from mlflow_onprem.system import bundle
from mlflow_onprem.system.apt import APT, Apt, obstacle

#: Package lists older than this, in seconds, are fetched again before an installation.
LISTS_FRESH = 3600.0
#: What was installed when an apt run of ours began (there only while it runs), and what such runs brought: a package a line.
#: bootstrap writes both too.
BEFORE = "/var/lib/mlflow-onprem/packages-before"
BROUGHT = "/var/lib/mlflow-onprem/packages-brought"
#: What is merely suggested or recommended by something else was not here before us, and that did without.
NEEDED_ALONE = ["-o", "APT::AutoRemove::SuggestsImportant=false", "-o", "APT::AutoRemove::RecommendsImportant=false"]


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
        apt = Apt(host, tuple(bundle.apt_options(host, self.packages)))
        if host.run(["dpkg", "--audit"]).out.strip():
            host.say("dpkg was interrupted some time ago: finishing that first")
            apt.dpkg(["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"])
        if self.want is None:
            self._purge(host)
            return
        if have is not None and have.installed == self.want.installed:
            record(host)
            return
        begin(host)
        if apt.options or self.lists_are_old(host):
            apt.update(self.packages)
        try:
            self._install(host, apt)
        except CommandFailed as failed:
            if "Unable to locate package" not in failed.output and "404" not in failed.output:
                raise
            apt.update(self.packages)
            self._install(host, apt)
        record(host)

    def _install(self, host: Host, apt: Apt) -> None:
        why = obstacle(host, self.packages, apt.options)
        if why is not None:
            raise why
        apt.download(self.packages)
        apt.get("install", "--no-install-recommends", *self.packages)

    def _purge(self, host: Host) -> None:
        ours, apt = brought(host), Apt(host)
        apt.get("purge", *sorted(installed(host, self.packages) & ours))
        # What apt itself now finds needless, as far as we brought it: what somebody else needs meanwhile stays.
        simulate = [*APT, *NEEDED_ALONE, "--simulate", "--purge", "autoremove"]
        needless = parse_simulation(host.run(simulate).out) & ours
        if needless:
            apt.get("purge", *sorted(needless))

    def lists_are_old(self, host: Host) -> bool:
        """Whether apt's lists are missing, or were fetched more than an hour ago."""
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
