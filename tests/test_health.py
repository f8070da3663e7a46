"""Probes against real servers on loopback: only the right answer is healthy, and every other one is told in words."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlflow_onprem.core.errors import ExitCode, Unhealthy
from mlflow_onprem.core.host import Result
from mlflow_onprem.settings.config import Config
from mlflow_onprem.stack import health
from mlflow_onprem.stack.health import Probe, ProbeFailed
from mlflow_onprem.system.systemd import Systemd
from tests.fake_machine import EXTERNAL, config
from tests.fakes import FakeHost

Answers = dict[str, tuple[int, bytes, str]]
Serve = Callable[[Answers], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that answers each path as told and 404 otherwise."""
    servers: list[ThreadingHTTPServer] = []

    def start(answers: Answers) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body, server = answers.get(self.path, (404, b"", "something"))
                self.send_response_only(status)
                self.send_header("Server", server)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> Iterator[int]:
    """A port that is bound and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


#: A server in a process of its own: libpq's ping does not let other threads of its process run.
SPEAKER = """
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        connection.settimeout(5)
        try:
            if sys.argv[2]:
                while connection.recv(4096)[4:8] in (b"\\x04\\xd2\\x16\\x2f", b"\\x04\\xd2\\x16\\x30"):  # wants TLS
                    connection.sendall(b"N")
            connection.sendall(bytes.fromhex(sys.argv[1]))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
        except OSError:
            pass
"""


@contextlib.contextmanager
def speaker(words: bytes, *, after_startup: bool = False) -> Iterator[int]:
    """A port that says these words to whoever comes, at once or once PostgreSQL's first message has come."""
    argv = [sys.executable, "-I", "-c", SPEAKER, words.hex(), "wait" if after_startup else ""]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline())
        child.kill()


@pytest.fixture
def babbler() -> Iterator[int]:
    """A port that speaks another protocol."""
    with speaker(b"220 mail.example ESMTP\r\n") as port:
        yield port


def failure(check: Callable[[], str]) -> str:
    with pytest.raises(ProbeFailed) as caught:
        check()
    return str(caught.value)


MLFLOW: Answers = {"/health": (200, b"OK", "uvicorn"), "/version": (200, b"3.17.2", "uvicorn")}


def test_mlflow_proves_itself_by_its_health_and_its_version(serve: Serve) -> None:
    url = serve(MLFLOW)
    assert health.check_mlflow(url) == "MLflow 3.17.2 serves"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"/health": (502, b"Bad Gateway", "nginx")}, "answers HTTP 502 to /health"),
        ({"/health": (200, b"<html>It works!</html>", "Apache")}, "answers HTTP 200 to /health, and not MLflow's OK"),
        ({"/health": (200, b"OK and more", "x")}, "not MLflow's OK"),
        ({"/health": (302, b"OK", "x")}, "answers HTTP 302 to /health"),
        ({"/version": (502, b"", "nginx")}, "answers HTTP 502 to /version"),
        ({"/version": (200, b"<html>", "x")}, "answers HTTP 200 to /version, and not a version"),
        ({"/version": (200, b"", "x")}, "not a version"),
    ],
)
def test_mlflow_is_not_up_with_any_other_answer(changed: Answers, says: str, serve: Serve) -> None:
    url = serve({**MLFLOW, **changed})
    assert says in failure(lambda: health.check_mlflow(url))


@pytest.mark.parametrize("server", ["MinIO", "Silo"])
def test_the_store_proves_itself_by_its_readiness_and_its_name(server: str, serve: Serve) -> None:
    assert health.check_store(serve({"/minio/health/cluster": (200, b"", server)}), minio=True) == "ready to read and write"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((503, b"", "MinIO"), "HTTP 503 to its readiness probe: it cannot write now"),
        ((502, b"", "nginx"), "HTTP 502"),
        ((200, b"", "nginx"), r"something else answers on this port (nginx)"),
        ((200, b"", ""), r"something else answers on this port (unnamed)"),
    ],
)
def test_the_store_is_not_up_with_any_other_answer(answer: tuple[int, bytes, str], says: str, serve: Serve) -> None:
    url = serve({"/minio/health/cluster": answer})
    assert says in failure(lambda: health.check_store(url, minio=True))


def test_a_foreign_store_speaks_s3_or_not(serve: Serve) -> None:
    denied = serve({"/": (403, b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "AmazonS3")})
    assert health.check_store(denied, minio=False) == "speaks S3"
    page = serve({"/": (200, b"<html>hello</html>", "nginx")})
    assert failure(lambda: health.check_store(page, minio=False)) == "answers HTTP 200, and not as S3 does"


CHECKS: dict[str, Callable[[int], str]] = {
    "mlflow": lambda port: health.check_mlflow(f"http://127.0.0.1:{port}"),
    "minio": lambda port: health.check_store(f"http://127.0.0.1:{port}", minio=True),
    "external store": lambda port: health.check_store(f"http://127.0.0.1:{port}", minio=False),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_hang_a_closed_port_and_another_protocol_are_told_apart(
    name: str, silent: int, closed: int, babbler: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "TIMEOUT", 0.3)
    assert "accepts the connection and does not answer within" in failure(lambda: CHECKS[name](silent))
    assert failure(lambda: CHECKS[name](closed)) == "nothing listens on this port"
    assert failure(lambda: CHECKS[name](babbler)) == "does not speak HTTP, or broke off"


def test_a_body_that_drips_for_ever_does_not_hold_a_probe(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TIMEOUT", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                try:
                    while not ended.wait(0.05):
                        connection.sendall(b"x" * 2000)
                except OSError:
                    return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        said = failure(lambda: health.check_mlflow(f"http://127.0.0.1:{server.getsockname()[1]}"))
        ended.set()
        thread.join(5)
    assert "not MLflow's OK" in said


def test_a_proxy_is_never_asked_for_our_own_ports(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert health.check_mlflow(serve(MLFLOW)) == "MLflow 3.17.2 serves"


def test_postgres_on_a_closed_port_and_on_one_that_speaks_something_else(closed: int, babbler: int) -> None:
    assert failure(lambda: health.check_postgres("127.0.0.1", closed)) == "nothing answers on this port as PostgreSQL does"
    assert failure(lambda: health.check_postgres("127.0.0.1", babbler)) == "nothing answers on this port as PostgreSQL does"


@pytest.mark.parametrize(
    ("code", "text", "says"),
    [
        (b"57P03", b"the database system is starting up", "is there and refuses connections: it is starting, stopping or recovering"),
        (b"28000", b"no pg_hba.conf entry for host", None),
    ],
)
def test_postgres_by_its_own_words(code: bytes, text: bytes, says: str | None) -> None:
    """An ErrorResponse on the wire: one that says it starts is not up, one that only sends us away is."""
    fields = b"SFATAL\0VFATAL\0C" + code + b"\0M" + text + b"\0\0"
    with speaker(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields, after_startup=True) as port:
        if says is None:
            assert health.check_postgres("127.0.0.1", port) == "accepts connections"
        else:
            assert failure(lambda: health.check_postgres("127.0.0.1", port)) == says


# verdicts ------------------------------------------------------------------------------------------------------------


def shows(active: str, load: str = "loaded") -> tuple[FakeHost, Systemd]:
    host = FakeHost()
    text = f"LoadState={load}\nActiveState={active}\nSubState=x\nUnitFileState=enabled\nNeedDaemonReload=no\nMainPID=1\n"
    host.programs["systemctl"] = lambda _: Result(0, text, "")
    host.programs["journalctl"] = lambda _: Result(0, "first line\nit died of this\n", "")
    return host, Systemd(host, ("mlflow.service",))


def probe(answer: str | None = "serves") -> Probe:
    def check() -> str:
        if answer is None:
            raise ProbeFailed("nothing listens on this port")
        return answer

    return Probe("mlflow", "mlflow.service", 5000, check)


def test_an_active_unit_whose_port_proves_itself_is_healthy() -> None:
    [verdict] = health.look(shows("active")[1], [probe()])
    assert (verdict.name, verdict.unit, verdict.port, verdict.active, verdict.healthy, verdict.detail) == (
        "mlflow",
        "mlflow.service",
        5000,
        True,
        True,
        "serves",
    )


@pytest.mark.parametrize(
    ("active", "load", "word"), [("inactive", "loaded", "inactive"), ("failed", "loaded", "failed"), ("inactive", "masked", "masked")]
)
def test_a_port_that_answers_while_its_unit_is_down_is_a_stranger(active: str, load: str, word: str) -> None:
    [verdict] = health.look(shows(active, load)[1], [probe()])
    assert (verdict.active, verdict.healthy) == (False, False)
    assert verdict.detail == f"its unit is {word}; the port serves"


def test_a_unit_that_is_not_installed_says_so() -> None:
    [verdict] = health.look(shows("inactive", "not-found")[1], [probe(None)])
    assert (verdict.healthy, verdict.detail) == (False, "its unit is not installed")


def test_an_active_unit_with_a_silent_port_is_not_healthy() -> None:
    [verdict] = health.look(shows("active")[1], [probe(None)])
    assert (verdict.active, verdict.healthy, verdict.detail) == (True, False, "nothing listens on this port")


def test_an_external_service_has_no_unit() -> None:
    [verdict] = health.look(shows("active")[1], [Probe("postgres", None, 6432, lambda: "accepts connections")])
    assert (verdict.unit, verdict.active, verdict.healthy) == (None, None, True)


def test_waiting_ends_with_the_journal_of_the_one_that_does_not_come_up() -> None:
    host, systemd = shows("active")
    with pytest.raises(Unhealthy, match="mlflow on port 5000 is not healthy after 0 s: nothing listens") as caught:
        health.wait(host, systemd, [probe(None)], deadline=0)
    assert (caught.value.exit_code, int(caught.value.exit_code)) == (ExitCode.UNHEALTHY, 4)
    assert "it died of this" in caught.value.output
    assert "mlflow-onprem logs mlflow" in caught.value.hint


def test_waiting_goes_on_until_all_are_healthy() -> None:
    answers = iter([None, None, "serves"])

    def check() -> str:
        if (answer := next(answers)) is None:
            raise ProbeFailed("not yet")
        return answer

    host, systemd = shows("active")
    [verdict] = health.wait(host, systemd, [Probe("mlflow", "mlflow.service", 5000, check)], deadline=30)
    assert verdict.healthy


def test_there_is_one_probe_for_each_service_of_a_configuration() -> None:
    local = health.probes(Config(), "postgresql@15-main.service")
    assert [(each.name, each.unit, each.port) for each in local] == [
        ("minio", "minio.service", 9000),
        ("postgres", "postgresql@15-main.service", 5432),
        ("mlflow", "mlflow.service", 5000),
    ]
    foreign = health.probes(config(EXTERNAL), None)
    assert [(each.name, each.unit, each.port) for each in foreign] == [
        ("minio", None, 443),
        ("postgres", None, 6432),
        ("mlflow", "mlflow.service", 5000),
    ]


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://s3.example.com", 80),
        ("https://s3.example.com", 443),
        ("http://10.0.0.9:9000", 9000),
        ("https://[fd00::1]", 443),
        ("http://[fd00::1]:9000", 9000),
    ],
)
def test_the_port_of_an_external_store(endpoint: str, port: int) -> None:
    elsewhere = config({**EXTERNAL, "minio": {**EXTERNAL["minio"], "endpoint": endpoint}})
    assert health.probes(elsewhere, None)[0].port == port
