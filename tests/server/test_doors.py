"""With accounts on, nothing answers without one: every route of the real app is called, by a real launcher."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .conftest import ADMIN, Service

pytestmark = pytest.mark.mlflow

OPEN = {"/health", "/version", "/api/3.0/mlflow/server-info", "/ajax-api/3.0/mlflow/server-info"}
LIST_ROUTES = Path(__file__).with_name("list_routes.py")

# Not routes of their own, but ways in that a list of exceptions can get wrong.
TRICKS = (
    "/healthz",
    "/health/",
    "/health/../api/2.0/mlflow/experiments/search",
    "//health",
    "/static-files/index.html",
    "/static-files/../../../../etc/passwd",
    "/favicon.ico",
    "/staticsomething",
    "/api/2.0/mlflow/server-info",
    "/api/9.9/mlflow/server-info",
    "/metrics",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/gateway",
    "/gateway/",
    "/no-such-route",
)


@pytest.fixture(scope="module")
def routes(service: Service) -> list[tuple[str, str]]:
    found = service.python_json(str(LIST_ROUTES))
    assert isinstance(found, list)
    return [(method, path) for method, path in found]


def test_the_routes_of_both_frameworks_are_seen(routes: list[tuple[str, str]]) -> None:
    paths = {path for _, path in routes}
    assert len(paths) > 300
    for path in ("/graphql", "/v1/traces", "/", "/api/2.0/mlflow/runs/create", "/api/2.0/mlflow/users/create", "/signup"):
        assert path in paths
    assert any(path.startswith("/gateway/") for path in paths)
    assert any("/assistant/" in path for path in paths)
    assert any("/jobs/" in path for path in paths)


@pytest.mark.parametrize("account", [None, "admin:wrong-password-123", "nobody:correct-horse-battery", ":"])
def test_no_route_answers_without_an_account(service: Service, routes: list[tuple[str, str]], account: str | None) -> None:
    asked = [*routes, *(("GET", path) for path in TRICKS)]
    if account and account.startswith("admin:"):
        asked = asked[::20]  # a wrong password for a real account costs the server 50 ms of hashing
    answered = {}
    for method, path in asked:
        status = service.call(method, path, account).status
        if path not in OPEN and status != 401:
            answered[method, path] = status
    assert not answered


def test_what_is_open_answers(service: Service) -> None:
    for path in OPEN:
        assert service.call("GET", path).status == 200
    assert service.call("GET", "/version").body == b"3.17.2"
    info = service.call("GET", "/api/3.0/mlflow/server-info").body
    assert b'"multipart_downloads_enabled":false' in info
    assert b'"multipart_uploads_enabled":false' in info


def test_an_account_opens_the_rest(service: Service) -> None:
    assert service.call("GET", "/", ADMIN).status == 200
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    answer = service.call("GET", search, ADMIN)
    assert answer.status == 200
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    asked = service.call("GET", search)
    assert asked.status == 401
    assert asked.headers["www-authenticate"] == 'Basic realm="mlflow"'


def test_an_ordinary_account_can_use_the_page_and_its_own_experiments(service: Service) -> None:
    account = "alice:a-long-enough-password"
    made = service.call(
        "POST",
        "/api/2.0/mlflow/users/create",
        ADMIN,
        {"Content-Type": "application/json"},
        b'{"username": "alice", "password": "a-long-enough-password"}',
    )
    assert made.status == 200
    json_type = {"Content-Type": "application/json"}
    assert service.call("GET", "/", account).status == 200
    assert service.call("POST", "/api/2.0/mlflow/experiments/create", account, json_type, b'{"name": "a"}').status == 200
    more = b'{"username": "bob", "password": "a-long-enough-password"}'
    assert service.call("POST", "/api/2.0/mlflow/users/create", account, json_type, more).status == 403


def test_other_host_names_and_other_sites_are_refused(service: Service) -> None:
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    name = socket.gethostname()
    for host in ("localhost", "LOCALHOST.:15000", "127.0.0.1", f"[::1]:{service.port}", "10.9.8.7:5000", name.upper(), f"{name.lower()}.:8080"):
        assert service.call("GET", search, ADMIN, {"Host": host}).status == 200, host
    # Before the account is asked for: who is at the wrong name reads so, whoever it is.
    for account in (ADMIN, None):
        refused = service.call("GET", search, account, {"Host": "attacker.example"})
        assert (refused.status, b"not known by the name attacker.example" in refused.body) == (403, True)
    write = {"Origin": "https://attacker.example", "Content-Type": "application/json"}
    assert service.call("POST", "/api/2.0/mlflow/experiments/create", ADMIN, write, b'{"name": "x"}').status == 403


def test_pages_of_this_server_write_by_any_name_and_port_of_it(service: Service) -> None:
    """MLflow's own check of pages does not get in the way, and the browser is told what it may do."""
    name = socket.gethostname()
    for number, (host, origin) in enumerate(
        (
            (f"{name.lower()}:15000", f"http://{name.upper()}:15000"),
            ("localhost:15000", "http://localhost:15000"),
            ("10.9.8.7", "https://10.9.8.7"),
            ("127.0.0.1:5000", f"https://{name}"),
        )
    ):
        headers = {"Host": host, "Origin": origin, "Content-Type": "application/json"}
        answer = service.call("POST", "/api/2.0/mlflow/experiments/create", ADMIN, headers, b'{"name": "page-%d"}' % number)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin), answer.body
    read = service.call("GET", "/api/2.0/mlflow/experiments/search?max_results=1", ADMIN, {"Origin": "https://attacker.example"})
    assert (read.status, "access-control-allow-origin" in read.headers) == (200, False)


def test_a_preflight_needs_no_account_and_reveals_nothing(service: Service) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    answer = service.call("OPTIONS", "/api/2.0/mlflow/runs/create", None, headers)
    assert answer.status == 200
    assert answer.body == b"OK"
    assert service.call("OPTIONS", "/api/2.0/mlflow/runs/create", None, {"Origin": "http://localhost:3000"}).status == 401
