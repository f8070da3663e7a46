"""Programs that fetch: ended with all they started when nothing comes, tried once more, and explained; never while they get something done."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow_onprem_sandbox.guest import Guest
from mlflow_onprem_sandbox.spec import Spec

from mlflow_onprem.core.errors import CommandFailed, OnPremError, Stalled, in_words
from mlflow_onprem.core.host import Result
from mlflow_onprem.system import children, fetching, network
from mlflow_onprem.system.local_host import LocalHost
from tests.fakes import Call, FakeHost

#: A process with a child in a session of its own that holds its pipes and ignores SIGTERM, both asleep.
STUBBORN = """\
import os, signal, sys, time
from pathlib import Path
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path(sys.argv[1]).joinpath(str(os.getpid())).touch()
print("started", flush=True)
time.sleep(600)
"""
#: Sends a little again and again: slow, and not standing still.
SLOW = "import sys, time\nfor _ in range(8):\n    time.sleep(0.25)\n    sys.stdout.write('x' * 100)\n    sys.stdout.flush()\n"
BUSY = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass\n"
FORKING = "import subprocess\nfor _ in range(8): subprocess.run(['sleep', '0.25'])\n"


def gone(pid: int) -> bool:
    """Whether a process ends: it is killed at once, and gone when the kernel has come to it."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_a_program_that_gets_nothing_done_is_ended_with_all_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "GRACE", 1.0)
    began = time.monotonic()
    with pytest.raises(Stalled, match=r"got nothing for 1 second and was ended") as caught:
        LocalHost().run([sys.executable, "-c", STUBBORN, str(tmp_path)], stall=1.0, timeout=300)
    assert time.monotonic() - began < 30
    assert "started" in caught.value.output
    pids = [int(each.name) for each in tmp_path.iterdir()]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_a_program_that_is_out_of_time_is_ended_with_all_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "GRACE", 1.0)
    with pytest.raises(CommandFailed, match="did not finish in time"):
        LocalHost().run([sys.executable, "-c", STUBBORN, str(tmp_path)], timeout=2)
    assert all(gone(int(each.name)) for each in tmp_path.iterdir())


@pytest.mark.parametrize("program", [SLOW, BUSY, FORKING], ids=["output", "processor time", "new processes"])
def test_a_program_that_gets_something_done_goes_on(program: str) -> None:
    LocalHost().run([sys.executable, "-c", program], stall=1.5, timeout=120)


def test_input_reaches_a_watched_program() -> None:
    text = "x" * 300_000
    assert LocalHost().run(["cat"], stdin=text, stall=5).out == text


def test_a_watched_program_has_a_limit_all_the_same() -> None:
    with pytest.raises(CommandFailed, match="did not finish in time") as caught:
        LocalHost().run([sys.executable, "-c", SLOW], stall=1.0, timeout=1)
    assert not isinstance(caught.value, Stalled)


def test_whom_a_program_waits_for() -> None:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        waits = f"import socket; s = socket.create_connection(('localhost', {port})); s.recv(1)"
        with pytest.raises(Stalled) as caught:
            LocalHost().run([sys.executable, "-c", waits], stall=1.0)
        assert caught.value.peers == (f"127.0.0.1:{port}",)
        assert fetching.named(caught.value.peers, ["localhost", "no.such.name.invalid"]) == [f"localhost (127.0.0.1:{port})"]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F:0050", "127.0.0.1:80"),
        ("00000000000000000000000001000000:01BB", "[::1]:443"),
        ("0000000000000000FFFF00000100007F:1F90", "127.0.0.1:8080"),
    ],
)
def test_addresses_of_proc_net_tcp(text: str, address: str) -> None:
    assert children.parse_address(text) == address


def test_seconds_in_words() -> None:
    assert [in_words(each) for each in (1, 8, 60, 120)] == ["1 second", "8 seconds", "1 minute", "2 minutes"]


class Silent:
    """A program that stands still as often as it is told to."""

    def __init__(self, times: int) -> None:
        self.host, self.left = FakeHost(), times
        self.host.programs["apt-get"] = self.run

    def run(self, _: Call) -> Result:
        self.left -= 1
        if self.left >= 0:
            raise Stalled("apt-get update", 120.0, "0% [Waiting]", peers=("192.0.2.7:80",))
        return Result(0, "done", "")


def test_it_is_tried_once_more_and_said() -> None:
    silent = Silent(1)
    assert fetching.run(silent.host, ["apt-get", "update"]).out == "done"
    assert silent.host.said == ["nothing came for 2 minutes (it waited for 192.0.2.7:80); trying again"]


def test_after_that_it_is_told_in_plain_words() -> None:
    silent = Silent(2)
    with pytest.raises(Stalled) as caught:
        fetching.run(silent.host, ["apt-get", "update"], hint="look here")
    assert caught.value.message == "`apt-get update` got nothing for 2 minutes and was ended, 2 times; it waited for 192.0.2.7:80"
    assert "name a mirror" in caught.value.hint
    assert "look here" in caught.value.hint


def test_how_long_is_a_setting_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetching.stall_seconds() == 120
    for text, seconds in (("600", 600), ("nonsense", 120), ("0", 120), ("-5", 120)):
        monkeypatch.setenv("MLFLOW_ONPREM_STALL_SECONDS", text)
        assert fetching.stall_seconds() == seconds


def test_a_failure_says_its_cause_and_which_proxy_settings_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower() in network.PROXIES:
            monkeypatch.delenv(name)
    host = FakeHost()
    host.put(
        "/etc/environment",
        'PATH="/usr/bin"\n# http_proxy=http://old:1\nexport HTTPS_PROXY="http://me:hunter2@proxy.example:3128"\nno_proxy=.example\n',
    )
    host.script(["apt-config", "dump"], out='Acquire::http::Proxy "http://cache.example:3142";\nAcquire::https::Proxy "";\n')
    host.programs["uv"] = lambda _: Result(2, "", "error: Failed to fetch\n  Caused by: dns error: failed to lookup address information\n")
    with pytest.raises(CommandFailed) as caught:
        fetching.run(host, ["uv", "pip"], hint="the program's own hint")
    assert caught.value.message == "`uv pip` exited with status 2: no DNS: its name cannot be resolved here"
    assert "/etc/environment has https_proxy = http://proxy.example:3128 (used)" in caught.value.hint
    assert 'apt has Acquire::http::Proxy "http://cache.example:3142" (used by apt alone)' in caught.value.hint
    assert "the program's own hint" in caught.value.hint
    assert "hunter2" not in caught.value.hint
    [call] = [each for each in host.calls if each.argv[0] == "uv"]
    assert (call.env["https_proxy"], call.env["no_proxy"]) == ("http://me:hunter2@proxy.example:3128", ".example")


def test_a_proxy_of_the_caller_goes_before_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://mine:1")
    host = FakeHost()
    host.put("/etc/environment", "http_proxy=http://system:2\n")
    assert network.inherited(host) == {}


def test_any_other_failure_stays_as_it_is() -> None:
    failed = CommandFailed("x", 1, "something else")
    assert fetching.explained(FakeHost(), failed) is failed
    assert isinstance(failed, OnPremError)


class Inside(Guest):
    """A test host whose inside is this machine."""

    def _enter(self, argv: Sequence[str], user: str | None) -> list[str]:
        return list(argv)


def test_a_follower_ends_what_runs_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended its own child alone, the program inside held the pipe, and the run hung."""
    monkeypatch.setattr(children, "GRACE", 1.0)
    heard: list[str] = []
    with pytest.raises(CommandFailed, match=r"(?s)\[h\] .* did not finish in time"):
        Inside(Spec.remains("h")).follow([sys.executable, "-c", STUBBORN, str(tmp_path)], heard.append, both=True, timeout=5)
    assert heard == ["started", "started"]
    assert all(gone(int(each.name)) for each in tmp_path.iterdir())


def test_a_follower_passes_on_what_is_said() -> None:
    heard: list[str] = []
    result = Inside(Spec.remains("h")).follow(["sh", "-c", "echo out; echo err >&2"], heard.append)
    assert (result.out, result.err, heard) == ("out\n", "err\n", ["err"])
    with pytest.raises(CommandFailed, match="exited with status 3"):
        Inside(Spec.remains("h")).follow(["sh", "-c", "exit 3"], heard.append)
