"""apt on a server where other things use apt too."""

from __future__ import annotations

import time

import pytest

from mlflow_onprem.core.errors import CommandFailed, OnPremError, Stalled
from mlflow_onprem.core.host import Result
from mlflow_onprem.core.resource import compare
from mlflow_onprem.resources import packages
from mlflow_onprem.resources.packages import AptPackages, AptPackagesState
from mlflow_onprem.system import apt as apt_module
from tests.fakes import START, Call, FakeHost

LOCKED = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)\nE: Unable to lock directory /var/lib/apt/lists/\n"


class Apt:
    """apt-get and dpkg with scripted answers; verbs in the order they came."""

    def __init__(self) -> None:
        self.host = FakeHost()
        self.host.put("/var/lib/apt/lists/main_Packages", "")
        self.verbs: list[str] = []
        self.answers: dict[str, list[Result]] = {}
        self.installed = ""
        self.host.mkdir("/var/lib/mlflow-onprem", mode=0o755, owner="root", group="root")
        self.simulated = ""
        self.host.programs |= {"apt-get": self.get, "dpkg": self.dpkg, "dpkg-query": self.query}

    def get(self, call: Call) -> Result:
        if "--simulate" in call.argv:
            return Result(0, self.simulated, "")
        verb = next(each for each in ("--download-only", "install", "update", "purge") if each in call.argv).replace("--download-only", "download")
        return self.answer(verb)

    def query(self, call: Call) -> Result:
        rows = [row for row in self.installed.splitlines() if not call.argv[4:] or row.split()[0] in call.argv[4:]]
        return Result(0 if not call.argv[4:] else 1, "".join(f"{row}\n" for row in rows), "")

    def dpkg(self, call: Call) -> Result:
        return self.answer("audit" if "--audit" in call.argv else "configure")

    def answer(self, verb: str) -> Result:
        self.verbs.append(verb)
        waiting = self.answers.get(verb)
        return waiting.pop(0) if waiting else Result(0, "", "")

    def resource(self, age: float = 0.0) -> AptPackages:
        names = ("postgresql-15", "python3.11")
        return AptPackages(names, AptPackagesState(frozenset(names)), clock=lambda: START + age)


def test_absent_half_installed_and_as_wanted() -> None:
    apt = Apt()
    assert apt.resource().observe(apt.host) is None
    apt.installed = "postgresql-15 ii \npython3.11 iU \n"
    change = compare(apt.resource(), apt.resource().observe(apt.host))
    assert change is not None
    assert change.fields["installed"].have == "postgresql-15"
    apt.installed = "postgresql-15 ii \npython3.11 ii \n"
    assert compare(apt.resource(), apt.resource().observe(apt.host)) is None


def test_one_run_for_all_that_asks_nothing_keeps_conffiles_and_restarts_nobody() -> None:
    apt = Apt()
    apt.resource().apply(apt.host, None)
    assert apt.verbs == ["audit", "download", "install"]
    simulated, download, call = [each for each in apt.host.calls if "install" in each.argv]
    assert "--simulate" in simulated.argv
    assert "--download-only" in download.argv
    assert call.argv[-2:] == ("postgresql-15", "python3.11")
    assert {"--no-install-recommends", "Dpkg::Options::=--force-confold", "-y"} <= set(call.argv)
    assert (call.env["DEBIAN_FRONTEND"], call.env["NEEDRESTART_SUSPEND"]) == ("noninteractive", "1")
    assert (call.env["APT_LISTCHANGES_FRONTEND"], call.env["APT_LISTBUGS_FRONTEND"]) == ("none", "none")


def test_old_or_missing_lists_are_fetched_first() -> None:
    apt = Apt()
    apt.resource(age=7200).apply(apt.host, None)
    assert apt.verbs == ["audit", "update", "download", "install"]
    apt = Apt()
    apt.host.remove("/var/lib/apt/lists")
    apt.resource().apply(apt.host, None)
    assert apt.verbs == ["audit", "update", "download", "install"]


def test_an_interrupted_dpkg_is_finished_first() -> None:
    apt = Apt()
    apt.answers["audit"] = [Result(0, "The following packages are only half configured\n", "")]
    apt.resource().apply(apt.host, None)
    assert apt.verbs == ["audit", "configure", "download", "install"]
    assert "dpkg was interrupted" in apt.host.said[0]


@pytest.mark.parametrize("said", ["E: Unable to locate package postgresql-15\n", "Err:1 http://mirror.example x 404  Not Found\n"])
def test_lists_that_turn_out_to_be_old_are_fetched_and_it_is_tried_again(said: str) -> None:
    apt = Apt()
    apt.answers["download"] = [Result(100, "", said)]
    apt.resource().apply(apt.host, None)
    assert apt.verbs == ["audit", "download", "update", "download", "install"]


def test_a_lock_is_waited_for_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    apt = Apt()
    apt.answers["download"] = [Result(100, "", LOCKED)] * 3
    apt.resource().apply(apt.host, None)
    assert apt.verbs == ["audit", *["download"] * 4, "install"]
    assert apt.host.said == ["another program is using apt; waiting up to 10 minutes for it to finish"]


def test_a_lock_that_stays_is_a_failure_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_module, "LOCK_DEADLINE", -1.0)
    apt = Apt()
    apt.answers["install"] = [Result(100, "", LOCKED)]
    with pytest.raises(CommandFailed) as caught:
        apt.resource().apply(apt.host, None)
    assert "held by process 7" in caught.value.output


def test_any_other_failure_is_told_with_what_to_look_at() -> None:
    apt = Apt()
    apt.answers["install"] = [Result(100, "", "E: Sub-process /usr/bin/dpkg returned an error code (1)\n")]
    with pytest.raises(CommandFailed) as caught:
        apt.resource().apply(apt.host, None)
    assert "--fix-broken" in caught.value.hint
    assert apt.verbs == ["audit", "download", "install"]


def test_what_came_with_us_is_written_down_and_nothing_else() -> None:
    apt = Apt()
    apt.installed = "bash ii \npython3.11 ii \n"

    def install(call: Call) -> Result:
        if "install" in call.argv:
            apt.installed = "bash ii \npython3.11 ii \npostgresql-15 ii \nlibpq5 ii \n"
        return apt.get(call)

    apt.host.programs["apt-get"] = install
    apt.resource().apply(apt.host, apt.resource().observe(apt.host))
    assert apt.host.read(packages.BROUGHT) == b"libpq5\npostgresql-15\n"
    assert apt.host.read(packages.BEFORE) is None


def test_a_run_killed_before_it_was_written_down_is_finished_without_apt() -> None:
    apt = Apt()
    apt.installed = "bash ii \npostgresql-15 ii \npython3.11 ii \n"
    apt.host.put(packages.BEFORE, "bash\npython3.11\n")
    change = compare(apt.resource(), apt.resource().observe(apt.host))
    assert change is not None
    assert set(change.fields) == {"recorded"}
    apt.resource().apply(apt.host, apt.resource().observe(apt.host))
    assert apt.verbs == ["audit"]
    assert apt.host.read(packages.BROUGHT) == b"postgresql-15\n"
    assert compare(apt.resource(), apt.resource().observe(apt.host)) is None


def test_wanted_absent_only_what_came_with_us_goes() -> None:
    apt = Apt()
    apt.installed = "bash ii \npostgresql-15 ii \npython3.11 ii \nlibpq5 ii \n"
    apt.host.put(packages.BROUGHT, "postgresql-15\nlibpq5\n")
    apt.simulated = "Purg libpq5 [15.20]\nRemv theirs [1.0]\n"
    gone = AptPackages(("postgresql-15", "python3.11"), None)
    assert gone.observe(apt.host) == AptPackagesState(frozenset({"postgresql-15"}))
    gone.apply(apt.host, gone.observe(apt.host))
    assert [call.argv[-1] for call in apt.host.calls if "purge" in call.argv] == ["postgresql-15", "libpq5"]


BROKEN = """\
Err:4 cdrom://[Debian 12] bookworm Release
  Please use apt-cdrom to make this CD-ROM recognized by APT.
E: The repository 'cdrom://[Debian 12] bookworm Release' does not have a Release file.
N: Updating from such a repository can't be done securely, and is therefore disabled by default.
"""
KNOWN = "postgresql-15:\n  Installed: (none)\n  Candidate: 15.20\npython3.11:\n  Installed: (none)\n  Candidate: 3.11.2\n"
PINNED = "postgresql-15:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n     15.20 -1\n" + KNOWN.partition("15.20\n")[2]


def test_a_source_that_fails_is_told_and_stops_nothing_that_is_known() -> None:
    apt = Apt()
    apt.answers["update"] = [Result(100, "", BROKEN)]
    apt.host.programs["apt-cache"] = lambda _: Result(0, KNOWN, "")
    apt.resource(age=7200).apply(apt.host, None)
    assert apt.verbs == ["audit", "update", "download", "install"]
    assert apt.host.said[0] == "warning: a package source fails: The repository 'cdrom://[Debian 12] bookworm Release' does not have a Release file."
    assert "put that source right" in apt.host.said[1]


def test_a_source_that_fails_stops_us_where_a_package_is_unknown() -> None:
    apt = Apt()
    apt.answers["update"] = [Result(100, "", BROKEN)]
    apt.host.programs["apt-cache"] = lambda _: Result(0, PINNED, "")
    with pytest.raises(CommandFailed) as caught:
        apt.resource(age=7200).apply(apt.host, None)
    assert "does not have a Release file" in caught.value.output


def test_a_silent_server_takes_no_other_sources_lists_with_it() -> None:
    apt = Apt()
    apt.host.put("/etc/apt/sources.list", "deb http://good.example/debian bookworm main\n")
    apt.host.put("/etc/apt/sources.list.d/silent.list", "deb http://silent.example stable main\n")
    apt.host.put("/etc/apt/sources.list.d/old.list.bak", "deb http://ignored.example stable main\n")
    apt.host.programs["apt-cache"] = lambda _: Result(0, KNOWN, "")
    asked: list[str] = []

    def get(call: Call) -> Result:
        if "update" in call.argv:
            files = [word.partition("=")[2] for word in call.argv if word.startswith("Dir::Etc::sourcelist=")]
            asked.extend(files or ["all"])
            if files != ["/etc/apt/sources.list"]:
                raise Stalled("apt-get update", 120.0, "", peers=("192.0.2.7:80",))
        return apt.get(call)

    apt.host.programs["apt-get"] = get
    apt.resource(age=7200).apply(apt.host, None)
    assert asked == ["all", "/etc/apt/sources.list", "/etc/apt/sources.list.d/silent.list"]
    told = "got nothing for 2 minutes and was ended; it waited for 192.0.2.7:80"
    assert apt.host.said[1] == f"warning: a package source fails: /etc/apt/sources.list.d/silent.list: {told}"


UNMET = """\
The following packages have unmet dependencies:
 postgresql-15 : Depends: libpq5 (>= 15) but 14.9 is to be installed
"""


def test_a_hold_is_told_with_apts_own_reason_and_the_way_out() -> None:
    apt = Apt()
    apt.host.programs["apt-mark"] = lambda _: Result(0, "linux-image-amd64\nlibpq5\n", "")
    apt.host.programs["apt-cache"] = lambda _: Result(0, KNOWN, "")
    refused = Result(100, f"Reading package lists...\n{UNMET}", "E: Unable to correct problems, you have held broken packages.\n")
    apt.host.programs["apt-get"] = lambda _: refused
    why = apt_module.obstacle(apt.host, ["postgresql-15", "python3.11"], fresh=False)
    assert why is not None
    assert why.output == f"{UNMET}E: Unable to correct problems, you have held broken packages."
    assert "sudo apt-mark unhold libpq5`" in why.hint
    with pytest.raises(OnPremError, match=r"apt cannot install postgresql-15, python3\.11"):
        apt.resource().apply(apt.host, None)


def test_a_pin_is_told_with_the_file_it_stands_in() -> None:
    apt = Apt()
    apt.host.programs["apt-mark"] = lambda _: Result(0, "", "")
    apt.host.programs["apt-cache"] = lambda _: Result(0, PINNED, "")
    apt.host.programs["apt-get"] = lambda _: Result(100, "", "E: Package 'postgresql-15' has no installation candidate\n")
    apt.host.put("/etc/apt/preferences.d/no-databases", "Package: mysql-* postgresql-*\nPin: release *\nPin-Priority: -1\n")
    apt.host.put("/etc/apt/preferences.d/other", "Package: nginx\nPin: release *\nPin-Priority: -1\n")
    why = apt_module.obstacle(apt.host, ["postgresql-15", "python3.11"])
    assert why is not None
    assert "a pin forbids postgresql-15: look into /etc/apt/preferences.d/no-databases (" in why.hint


def test_lists_that_are_missing_or_old_prove_nothing() -> None:
    apt = Apt()
    apt.host.programs["apt-mark"] = lambda _: Result(0, "", "")
    apt.host.programs["apt-cache"] = lambda _: Result(0, "", "")
    apt.host.programs["apt-get"] = lambda _: Result(100, "", "E: Unable to locate package postgresql-15\n")
    assert apt_module.obstacle(apt.host, ["postgresql-15"]) is None
    apt.host.programs["apt-get"] = lambda _: Result(100, UNMET, "E: Unable to correct problems, you have held broken packages.\n")
    assert apt_module.obstacle(apt.host, ["postgresql-15"], fresh=False) is None
    assert apt_module.obstacle(apt.host, ["postgresql-15"]) is not None
