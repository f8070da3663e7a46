"""doctor's judgements, without a stack: listeners, versions, clock, disk, secrets' files, and a journey against a server of the test's own."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest

from mlflow_onprem.core.finding import error, ok, warning
from mlflow_onprem.doctor import exposure, host_checks, render, smoke_test
from mlflow_onprem.doctor.examination import Examination
from mlflow_onprem.settings.config import Config, MinioSection
from mlflow_onprem.system import ports
from tests.fakes import FakeHost

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(address: str, state: str = "0A") -> str:
    return f"   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 22222 1\n"


def test_listeners_are_read_with_their_addresses() -> None:
    text = HEADER + row("0100007F:2328") + row("00000000:1388") + row("0100007F:1F90", state="01")
    assert ports.parse(text) == [ports.Listener("127.0.0.1", 9000, "22222"), ports.Listener("0.0.0.0", 5000, "22222")]
    six = (
        HEADER
        + row("00000000000000000000000001000000:1538")
        + row("00000000000000000000000000000000:1538")
        + row("0000000000000000FFFF00000100007F:2329")
    )
    found = ports.parse(six)
    assert [(each.address, each.loopback) for each in found] == [("::1", True), ("::", False), ("127.0.0.1", True)]


def test_a_port_open_against_the_configuration_is_an_error() -> None:
    host = FakeHost()
    host.put("/proc/net/tcp", HEADER + row("0100007F:2328") + row("00000000:1538") + row("00000000:1388"))
    found = {each.level: each for each in exposure.ports(host, Config(), postgres_shared=False)}
    assert "PostgreSQL listens on 0.0.0.0 port 5432" in found["error"].what
    assert found["ok"].what == "only this host reaches 9000, 9001"
    shared = [each.level for each in exposure.ports(host, Config(), postgres_shared=True)]
    assert shared == ["warning", "ok"], "a cluster that others use is its owner's to open"


def test_a_console_on_the_network_is_an_error_though_the_store_is_open_on_purpose() -> None:
    host = FakeHost()
    host.put("/proc/net/tcp", "header\n" + "".join(f"{n}: 00000000:{port:04X} 00000000:0000 0A\n" for n, port in enumerate((9000, 9001))))
    opened = Config.model_validate({"minio": {"bind": "0.0.0.0"}})
    [found] = [each for each in exposure.ports(host, opened, postgres_shared=False) if each.level == "error"]
    assert "the object store's console listens on 0.0.0.0 port 9001" in found.what
    assert "[minio] console_bind" in found.fix
    both = Config.model_validate({"minio": {"bind": "0.0.0.0", "console_bind": "0.0.0.0"}})
    assert all(each.level == "ok" for each in exposure.ports(host, both, postgres_shared=False))


@pytest.mark.parametrize(
    ("running", "level"), [("3.16.1", "error"), ("2.22.5", "error"), ("3.17.0", "warning"), ("3.17.2", "ok"), ("3.18.0", "warning")]
)
def test_mlflow_below_the_floor_is_an_error(running: str, level: str) -> None:
    assert host_checks.mlflow_version(running, "3.17.2").level == level


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("silo version RELEASE.2026-09-16T00-00-00Z (commit-id=1)", "ok"),
        ("minio version RELEASE.2025-09-07T16-13-09Z (commit-id=1)", "warning"),
        ("minio version DEVELOPMENT.GOGET", "warning"),
        ("", "warning"),
    ],
)
def test_a_store_without_this_years_fixes_is_warned_of(version: str, level: str) -> None:
    assert host_checks.store_version(version, MinioSection()).level == level


def test_the_fix_of_an_old_store_is_one_that_is_heeded() -> None:
    """An address of one's own goes before the named distribution."""
    assert 'set distribution = "silo" in [minio]' in host_checks.store_version("", MinioSection()).fix
    own = MinioSection(url="file:///srv/minio", sha256="a" * 64)
    assert "take out url and sha256" in host_checks.store_version("", own).fix


def test_a_clock_that_is_off_is_an_error_and_one_that_nobody_keeps_is_warned_of() -> None:
    host = FakeHost()
    host.script(["timedatectl", "show", "-p", "NTPSynchronized", "--value"], out="yes\n")
    right, wrong = formatdate(time.time(), usegmt=True), formatdate(time.time() - 4000, usegmt=True)
    assert [each.level for each in host_checks.clock(host, [("the store", right), ("MLflow", None)])] == ["ok"]
    off = list(host_checks.clock(host, [("the store", wrong)]))
    assert (off[0].level, " s apart" in off[0].what) == ("error", True)
    host.script(["timedatectl", "show", "-p", "NTPSynchronized", "--value"], out="no\n")
    assert [each.level for each in host_checks.clock(host, [("the store", right)])] == ["warning"]


def test_every_finding_that_is_not_well_says_why_and_how_to_fix_it() -> None:
    examination = Examination((ok("a", "fine"), warning("b", "so so", "it may break", "do this"), error("c", "broken", "it hurts", "do that")), 1.25)
    text = render.examination_text(examination)
    assert "✓ a" in text
    assert "    why  it hurts" in text
    assert "    fix  do that" in text
    assert "NOT healthy: 1 error, 1 warning" in text
    body = render.examination_json(examination)
    assert (body["healthy"], [each["level"] for each in body["findings"]]) == (False, ["ok", "warning", "error"])
    assert json.loads(json.dumps(body)) == body


class Server(smoke_test.Rest):
    """MLflow, as far as the journey needs it. `broken`: paths that answer 500."""

    def __init__(self, broken: tuple[str, ...] = (), garble: bool = False) -> None:
        super().__init__("http://127.0.0.1:9", None)
        self.broken, self.garble = broken, garble
        self.files: dict[str, bytes] = {}
        self.metrics: list[dict[str, object]] = []
        self.traces: list[str] = []
        self.alive: set[str] = set()

    def call(self, method: str, path: str, body: object = None, version: str = "2.0") -> dict[str, object]:
        if path in self.broken:
            raise smoke_test.StepFailed(f"{method} {path}: HTTP 500")
        given = dict(body) if isinstance(body, dict) else {}
        if path == "experiments/create":
            self.alive.add("experiment")
            return {"experiment_id": "7"}
        if path == "runs/create":
            return {"run": {"info": {"run_id": "r", "artifact_uri": "mlflow-artifacts:/7/r/artifacts"}}}
        if path in ("runs/log-metric", "runs/log-batch"):
            self.metrics += given.get("metrics", [given])
        if path == "runs/get":
            return {"run": {"data": {"metrics": self.metrics}}}
        if path == "registered-models/create":
            self.alive.add("model")
        if path in ("model-versions/create", "model-versions/get"):
            return {"model_version": {"version": "1", "run_id": "r"}}
        if path == "traces":
            self.traces.append(given["trace"]["trace_info"]["trace_id"])
        if path == "traces/search":
            return {"traces": [{"trace_id": each} for each in self.traces]}
        if path in ("experiments/delete", "registered-models/delete"):
            self.alive.discard(path.partition("/")[0].removeprefix("registered-").rstrip("s"))
        return {}

    def send(self, method: str, path: str, **options: object) -> object:  # type: ignore[override]
        class Answer:
            status_code, content, text = 200, b"", ""

        answer = Answer()
        if method == "PUT":
            self.files[path] = bytes(options["data"])  # type: ignore[call-overload]
        elif method == "DELETE":
            self.files.pop(path, None)
        elif path in self.files:
            answer.content = self.files[path][:-1] if self.garble else self.files[path]
        else:
            answer.status_code = 404
        return answer


def test_a_journey_makes_and_removes_all_of_it() -> None:
    server, forgotten = Server(), list[str]()
    found = list(smoke_test.travel(server, forgotten.extend))
    assert [(each.check, each.level) for each in found] == [
        (check, "ok") for check in ("run", "metrics", "artifact", "model version", "trace", "clean-up")
    ]
    assert (forgotten, server.files, server.alive) == (["7"], {}, set())


@pytest.mark.parametrize("step", ["runs/create", "runs/log-batch", "registered-models/create", "traces"])
def test_a_step_that_fails_ends_the_journey_and_still_cleans_up(step: str) -> None:
    server, forgotten = Server(broken=(step,)), list[str]()
    found = list(smoke_test.travel(server, forgotten.extend))
    assert [each.level for each in found[-2:]] == ["error", "ok"]
    assert step in found[-2].what
    assert (forgotten, server.files, server.alive) == (["7"], {}, set())


def test_other_bytes_than_were_sent_are_bad() -> None:
    found = list(smoke_test.travel(Server(garble=True), lambda _: None))
    assert found[2].level == "error"
    assert "other bytes" in found[2].what


def test_nothing_is_said_to_stay_where_nothing_was_made() -> None:
    """A server that refuses everything: once it was said that an experiment stays in everybody's lists."""
    found = list(smoke_test.travel(Server(broken=("experiments/create", "experiments/search")), lambda _: None))
    assert [(each.check, each.level) for each in found] == [("run", "error"), ("clean-up", "warning")]
    assert "nothing was made that has to be deleted" in found[-1].what
    assert "lists" not in found[-1].why


def test_what_cannot_be_cleaned_up_is_an_error() -> None:
    found = list(smoke_test.travel(Server(broken=("experiments/delete",)), lambda _: None))
    assert (found[-1].check, found[-1].level) == ("clean-up", "error")
    assert "stay in your lists" in found[-1].why
    assert found[-1].fix
