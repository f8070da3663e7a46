"""apt on a server where other things use apt too."""

from __future__ import annotations

import time

import pytest

from mlflow_onprem.errors import CommandFailed
from mlflow_onprem.host import Result
from mlflow_onprem.resource import compare
from mlflow_onprem.resources import apt as apt_module
from mlflow_onprem.resources import packages
from mlflow_onprem.resources.packages import AptPackages, AptPackagesState
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
