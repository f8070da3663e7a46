"""A client on another machine, with MLflow at its defaults and only what `client-env` gives, in all three ways artifacts can go."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox

from tests.host import steps
from tests.host.clients import EVERYTHING, VERSIONS, http_status, reaches, use, variables, worked
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
OPEN = 'bind = "0.0.0.0"\n'
#: From 500 MB on the client sends a file in parts.
LARGE = 520 << 20
#: Some of each framework's routes; all of them are in tests/server/test_doors.py.
ROUTES = (
    ("GET", "/"),
    ("GET", "/metrics"),
    ("POST", "/graphql"),
    ("GET", "/api/2.0/mlflow/experiments/search?max_results=1"),
    ("POST", "/api/2.0/mlflow/runs/create"),
    ("GET", "/ajax-api/2.0/mlflow/experiments/get?experiment_id=0"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts?path=0"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/0/x"),
    ("GET", "/get-artifact?path=x&run_uuid=1"),
    ("POST", "/v1/traces"),
    ("POST", "/ajax-api/3.0/jobs/search"),
    ("GET", "/api/2.0/mlflow/users/list"),
)


@pytest.fixture(scope="module")
def server(module_host: HostFactory) -> Sandbox:
    """One server; each test sets it the way it needs it."""
    made = module_host()
    # Counts what comes to each port, below everything that could hide it.
    rules = "".join(f"tcp dport {port} counter\n" for port in (5000, 9000))
    made.run(["nft", "-f", "-"], stdin=f"table inet count {{\nchain in {{\ntype filter hook input priority 0;\n{rules}}}\n}}\n")
    return made


@pytest.fixture(scope="module")
def client(module_host: HostFactory, clients: Layer) -> Sandbox:
    """Another machine."""
    return module_host(clients, hostname="client")


@pytest.fixture(scope="module")
def mode(server: Sandbox, config: str) -> Callable[[str], dict[str, str]]:
    """Sets the server to a way for artifacts and returns what a client needs."""
    texts = {
        "proxied": config,
        "presigned": steps.configured(config, minio=OPEN, mlflow='artifacts = "presigned"'),
        "direct": steps.configured(config, minio=OPEN, mlflow='artifacts = "direct"'),
        "open": steps.configured(config, auth="enabled = false"),
    }

    def set_to(name: str) -> dict[str, str]:
        steps.install(server, texts[name])
        return variables(server)

    return set_to


def bytes_in(server: Sandbox, port: int) -> int:
    """Bytes that came to a port so far."""
    rules = json.loads(server.run(["nft", "-j", "list", "table", "inet", "count"]).out)["nftables"]
    expressions = [each["rule"]["expr"] for each in rules if "rule" in each]
    return sum(int(expr[1]["counter"]["bytes"]) for expr in expressions if expr[0]["match"]["right"] == port)


@pytest.mark.long  # not seen green since the modules moved
@pytest.mark.parametrize("version", VERSIONS)
def test_proxied_everything_goes_through_one_port(server: Sandbox, client: Sandbox, mode: Callable[[str], dict[str, str]], version: str) -> None:
    """Runs, artifacts byte for byte, registry, a trace, experiment 0: with an address and an account alone, and nothing else is open."""
    given = mode("proxied")
    assert set(given) == {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    assert given["MLFLOW_TRACKING_URI"] == f"http://{server.address}:5000"
    answer = use(client, version, given)
    assert worked(answer) == dict.fromkeys(EVERYTHING, True)
    assert str(answer["artifact_uri"]).startswith("mlflow-artifacts:/")
    assert {port: reaches(client, server.address, port) for port in (5000, 9000, 9001, 5432)} == {5000: True, 9000: False, 9001: False, 5432: False}


@pytest.mark.long  # not seen green since the modules moved
def test_proxied_a_large_file_goes_through_the_one_port_too(server: Sandbox, client: Sandbox, mode: Callable[[str], dict[str, str]]) -> None:
    """From 500 MB on the client would go to the store by itself; here it does not even try."""
    answer = use(client, VERSIONS[0], mode("proxied"), "large", str(LARGE))
    assert (answer["same"], answer["bytes"]) == (True, LARGE)


@pytest.mark.long  # not seen green since the modules moved
@pytest.mark.parametrize("version", VERSIONS)
def test_presigned_clients_hold_no_keys(client: Sandbox, mode: Callable[[str], dict[str, str]], version: str) -> None:
    """With the store open, the same client with the same three variables does everything."""
    given = mode("presigned")
    assert set(given) == {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"}
    assert worked(use(client, version, given)) == dict.fromkeys(EVERYTHING, True)


@pytest.mark.long  # not seen green since the modules moved
def test_presigned_large_files_go_straight_to_the_store(server: Sandbox, client: Sandbox, mode: Callable[[str], dict[str, str]]) -> None:
    """A file of more than 500 MB: its bytes come to port 9000, next to none to port 5000."""
    given = mode("presigned")
    before = {port: bytes_in(server, port) for port in (5000, 9000)}
    answer = use(client, VERSIONS[0], given, "large", str(LARGE))
    came = {port: bytes_in(server, port) - before[port] for port in before}
    assert (answer["same"], answer["bytes"]) == (True, LARGE)
    assert came[9000] > LARGE
    assert came[5000] < 5 << 20


@pytest.mark.long  # not seen green since the modules moved
@pytest.mark.parametrize("version", VERSIONS)
def test_direct_clients_hold_the_keys(client: Sandbox, mode: Callable[[str], dict[str, str]], version: str) -> None:
    """As in the article: new experiments lie at s3://, and the client goes there with the keys of `client-env`."""
    given = mode("direct")
    assert {"MLFLOW_S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= set(given)
    answer = use(client, version, given)
    assert worked(answer) == dict.fromkeys(EVERYTHING, True)
    assert str(answer["artifact_uri"]).startswith("s3://mlflow/")


@pytest.mark.long  # not seen green since the modules moved
def test_nothing_answers_without_an_account(server: Sandbox, client: Sandbox, mode: Callable[[str], dict[str, str]]) -> None:
    """401 on Flask's and FastAPI's routes alike, without and with a wrong account; health, version and server-info are open."""
    given = mode("proxied")
    url = given["MLFLOW_TRACKING_URI"]
    wrong = {"Authorization": "Basic " + base64.b64encode(b"admin:password1234").decode()}
    right = f"{given['MLFLOW_TRACKING_USERNAME']}:{given['MLFLOW_TRACKING_PASSWORD']}"
    for headers in ({}, wrong):
        answers = {f"{method} {path}": http_status(client, url + path, method=method, headers=headers) for method, path in ROUTES}
        assert answers == dict.fromkeys(answers, 401)
    for path in ("/health", "/version", "/api/3.0/mlflow/server-info"):
        assert http_status(client, url + path) == 200
    account = {"Authorization": "Basic " + base64.b64encode(right.encode()).decode()}
    assert http_status(client, f"{url}/api/2.0/mlflow/experiments/search?max_results=1", headers=account) == 200
    assert http_status(client, f"{url}/health", headers={"Host": "evil.example"}) in (200, 403)
    assert http_status(client, f"{url}/api/2.0/mlflow/experiments/search?max_results=1", headers={**account, "Host": "evil.example"}) == 403


@pytest.mark.long  # not seen green since the modules moved
def test_without_accounts_install_says_what_that_means(server: Sandbox, client: Sandbox, config: str, mode: Callable[[str], dict[str, str]]) -> None:
    """With `enabled = false` the client needs the address alone, and install warns in plain words."""
    result = steps.attempt(server, steps.configured(config, auth="enabled = false"))
    assert result.code == 0, result.err
    assert "WARNING: accounts are off" in result.out
    assert "delete" in result.out
    given = mode("open")
    assert set(given) == {"MLFLOW_TRACKING_URI"}
    assert worked(use(client, VERSIONS[0], given)) == dict.fromkeys(EVERYTHING, True)
