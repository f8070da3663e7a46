"""A host called GPU01 as its clients find it: by any of its names, through a forwarded port, after its address and its name have changed."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from typing import Any

import pytest
from mlflow_onprem_sandbox import Sandbox, product

from mlflow_onprem.doctor.smoke_test import Rest
from tests.host import rest, steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host

INFO = "/api/3.0/mlflow/server-info"  # needs no account, and one of the server's names
#: Asked on the host itself, which has addresses that this machine has no way to.
ASK = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], 5000, timeout=30)
connection.request("GET", sys.argv[3], headers={"Host": sys.argv[2]})
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""
#: A program of OpenTelemetry's own: its variables are read by the SDK's function, and one span is sent as its exporter does.
SPAN = """
import os, secrets, time
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.util.re import parse_env_headers
assert os.environ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
headers = parse_env_headers(os.environ["OTEL_EXPORTER_OTLP_TRACES_HEADERS"], liberal=True)
request = ExportTraceServiceRequest()
span = request.resource_spans.add().scope_spans.add().spans.add()
span.trace_id, span.span_id, span.name = secrets.token_bytes(16), secrets.token_bytes(8), "told by OpenTelemetry"
span.start_time_unix_nano, span.end_time_unix_nano = time.time_ns() - 10**7, time.time_ns()
body = request.SerializeToString()
answer = requests.post(os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], data=body, headers={**headers, "Content-Type": "application/x-protobuf"})
print(answer.status_code, "tr-" + span.trace_id.hex())
"""


@pytest.fixture(scope="module")
def server(module_host: HostFactory) -> Sandbox:
    """An installed stack on a host that has been renamed since."""
    return module_host(hostname="GPU01")


def ask(
    address: str, host: str, method: str = "GET", path: str = INFO, port: int = 5000, *, body: str = "", headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """One request from another machine: status and text."""
    connection = HTTPConnection(address, port, timeout=30)
    connection.request(method, path, body, {"Host": host, **(headers or {})})
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, text


def inside(server: Sandbox, address: str, host: str, path: str = INFO) -> str:
    """One request on the host itself: status and text."""
    return server.run(["python3", "-c", ASK, address, host, path]).out


@contextlib.contextmanager
def forwarded(address: str) -> Iterator[int]:
    """A port of this machine's loopback that leads to the server's, as `ssh -L` makes one."""

    def carry(here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(65536):
                there.sendall(data)
        with contextlib.suppress(OSError):
            there.shutdown(socket.SHUT_WR)

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, there = listener.accept()[0], socket.create_connection((address, 5000))
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


def test_every_name_of_the_host_is_served_and_no_other(server: Sandbox) -> None:
    for name in ("gpu01:5000", "GPU01", "Gpu01.:8080", "gpu01.local", "localhost:15000", f"{server.address}:5000", "203.0.113.9", "[fd00::9]:5000"):
        assert ask(server.address, name)[0] == 200, name
    status, text = ask(server.address, "tracking.example.com:5000")
    assert (status, "not known by the name tracking.example.com" in text) == (403, True)
    assert 'hosts = ["tracking.example.com"] in [mlflow]' in text
    assert steps.status(server)[0] == 0
    assert steps.plan(server)[0] == 0


def test_a_browser_through_a_forwarded_port(server: Sandbox) -> None:
    """ssh -L 15000:localhost:5000, and the page's own requests, which carry its origin."""
    variables: dict[str, str] = json.loads(server.run(["mlflow-onprem", "client-env", "--json"]).out)["variables"]
    plain = f"{variables['MLFLOW_TRACKING_USERNAME']}:{variables['MLFLOW_TRACKING_PASSWORD']}"
    authorization = f"Basic {base64.b64encode(plain.encode()).decode()}"
    with forwarded(server.address) as port:
        here = f"localhost:{port}"
        account = {"Content-Type": "application/json", "Authorization": authorization}
        create = "/ajax-api/2.0/mlflow/experiments/create"
        assert ask("127.0.0.1", here, "GET", "/", port, headers=account)[0] == 200
        own, other = ({**account, "Origin": origin} for origin in (f"http://{here}", "https://attacker.example"))
        mine = ask("127.0.0.1", here, "POST", create, port, body='{"name": "by a browser"}', headers=own)
        assert mine[0] == 200, mine
        foreign = ask("127.0.0.1", here, "POST", create, port, body='{"name": "by a foreign page"}', headers=other)
        assert (foreign[0], 'origins = ["https://attacker.example"]' in foreign[1]) == (403, True)
        rebound = ask("127.0.0.1", f"attacker.example:{port}", "GET", "/", port, headers=account)
        assert (rebound[0], "not known by the name attacker.example" in rebound[1]) == (403, True)


@pytest.mark.long
def test_the_hint_followed_and_status_until_then(server: Sandbox) -> None:
    config = server.read(product.CONFIG).decode()
    server.write(
        product.CONFIG, f'{config}\n[mlflow]\nhosts = ["Tracking.Example.com", "*.apps.example.com"]\norigins = ["https://notebook.example"]\n'
    )
    code, answer = steps.status(server)
    [mlflow] = [each for each in answer["services"] if each["name"] == "mlflow"]
    assert (code, "refuses everybody who calls this server tracking.example.com: sudo mlflow-onprem install" in mlflow["detail"]) == (4, True)
    steps.install(server)
    assert steps.status(server)[0] == 0
    for name, status in (("tracking.example.com:443", 200), ("x.apps.example.com", 200), ("apps.example.com", 403)):
        assert ask(server.address, name)[0] == status, name
    asked = {"Origin": "https://notebook.example", "Access-Control-Request-Method": "POST"}
    assert ask(server.address, "tracking.example.com", "OPTIONS", "/v1/traces", headers=asked)[0] == 200
    printed = json.loads(server.run(["mlflow-onprem", "client-env", "--json"]).out)
    assert printed["variables"]["MLFLOW_TRACKING_URI"] == "http://tracking.example.com:5000"
    assert printed["no_proxy"] == ["tracking.example.com"]
    # The name leads nowhere from here: doctor says so, and looks at everything else all the same.
    findings = json.loads(server.run(["mlflow-onprem", "doctor", "--json"], ok=(0, 4), timeout=180).out)["findings"]
    levels: dict[str, str] = {each["check"]: each["level"] for each in findings}
    assert (levels["client address"], levels["run"], levels["clean-up"], levels["foreign name"], levels["drift"]) == (
        "warning",
        "ok",
        "ok",
        "ok",
        "ok",
    )
    steps.install(server, config)


@pytest.mark.long
def test_a_program_of_opentelemetrys_own(server: Sandbox) -> None:
    door = rest.door(server)
    experiment = door.call("POST", "experiments/create", {"name": "otlp"})["experiment_id"]
    variables: dict[str, str] = json.loads(server.run(["mlflow-onprem", "client-env", "--otlp", experiment, "--json"]).out)["variables"]
    sent = server.run(["/opt/mlflow-onprem/environments/current/bin/python", "-c", SPAN], env=variables, timeout=120).out.split()
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
    found: list[dict[str, Any]] = door.call("POST", "traces/search", {"locations": [place], "max_results": 10}, version="3.0")["traces"]
    assert (sent[0], [each["trace_id"] for each in found]) == ("200", [sent[1]])


def test_an_address_that_changes_needs_nobody(server: Sandbox) -> None:
    """What DHCP does while everything runs."""
    started = steps.running(server)
    route = server.run(["ip", "route", "show", "default"]).out.split()
    change = "ip addr add 10.99.99.9/24 dev eth0 && ip addr del {0}/24 dev eth0 && ip route replace default via 10.99.99.1 dev eth0"
    server.run(["sh", "-c", change.format(server.address)])
    try:
        assert inside(server, "10.99.99.9", "10.99.99.9:5000").startswith("200 ")
        assert inside(server, "10.99.99.9", "gpu01:5000").startswith("200 ")
        assert steps.status(server)[0] == 0
        assert steps.plan(server)[0] == 0, "nothing to install after it"
        door: Rest = rest.door(server)
        assert door.url == "http://10.99.99.9:5000"
    finally:
        back = f"ip addr add {server.address}/24 dev eth0 && ip addr del 10.99.99.9/24 dev eth0 && ip route replace default via {route[2]} dev eth0"
        server.run(["sh", "-c", back])
    assert ask(server.address, "gpu01")[0] == 200
    assert steps.running(server) == started


@pytest.mark.long
def test_a_bind_that_is_gone_is_named(server: Sandbox) -> None:
    config = server.read(product.CONFIG).decode()
    refused = steps.attempt(server, f'{config}\n[mlflow]\nbind = "10.99.99.9"\n')
    assert refused.code == 1
    assert "mlflow.bind is 10.99.99.9, and this host does not have that address now" in refused.err
    code, answer = steps.status(server)
    assert (code, "this host does not have that address now" in answer["services"][2]["detail"]) == (4, True)
    server.write(product.CONFIG, config)


def test_a_host_that_is_renamed_while_it_serves(server: Sandbox) -> None:
    started = steps.running(server)
    server.write("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 trainer.corp.example trainer\n{server.address} trainer\n")
    server.write("/etc/hostname", "trainer\n")
    server.run(["hostname", "trainer"])
    for name in ("trainer", "TRAINER.corp.example:5000", "trainer.local"):
        assert ask(server.address, name)[0] == 200, name
    assert steps.status(server)[0] == 0
    assert steps.running(server) == started
