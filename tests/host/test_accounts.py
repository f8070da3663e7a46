"""The life of an account on a real stack: made, used, granted, handed over, removed; and what people may do to each other's work."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from mlflow_onprem_sandbox import Sandbox

from tests.host import steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host

PASSWORD = "correct horse, battery"


@pytest.fixture(scope="module")
def server(module_host: HostFactory) -> Sandbox:
    """One stack for all of these."""
    return module_host()


def user(server: Sandbox, *words: str, stdin: str = "", code: int = 0) -> dict[str, Any]:
    """`mlflow-onprem user ... --json`, which must end with that exit status."""
    result = server.run(["mlflow-onprem", "user", *words, "--json"], stdin=stdin, ok=steps.ANY)
    assert result.code == code, result.err
    answer: dict[str, Any] = json.loads(result.out)
    return answer


def add(server: Sandbox, name: str, *options: str) -> requests.Session:
    """An account, and a session logged in with it."""
    user(server, "add", name, *options, stdin=f"{PASSWORD}\n")
    session = requests.Session()
    session.trust_env = False
    session.auth = (name, PASSWORD)
    return session


def post(server: Sandbox, session: requests.Session, path: str, body: dict[str, Any]) -> requests.Response:
    return session.post(f"http://{server.address}:5000/api/2.0/mlflow/{path}", json=body, timeout=20)


def test_people_own_what_they_make_and_read_the_rest(server: Sandbox) -> None:
    ann, bob = add(server, "ann"), add(server, "bob")
    made = post(server, ann, "experiments/create", {"name": "of-ann"})
    number = made.json()["experiment_id"]
    assert post(server, ann, "runs/create", {"experiment_id": number}).status_code == 200
    assert post(server, ann, "registered-models/create", {"name": "model-of-ann"}).status_code == 200
    # Who names no experiment logs into experiment 0.
    assert post(server, ann, "runs/create", {"experiment_id": "0"}).status_code == 200
    assert post(server, bob, "runs/create", {"experiment_id": number}).status_code == 403
    assert post(server, bob, "experiments/delete", {"experiment_id": number}).status_code == 403
    assert post(server, bob, "experiments/delete", {"experiment_id": "0"}).status_code == 403
    assert post(server, bob, "runs/search", {"experiment_ids": [number]}).json()["runs"]
    assert post(server, bob, "users/create", {"username": "eve", "password": PASSWORD}).status_code == 403

    user(server, "grant", "bob", "of-ann", "EDIT")
    assert post(server, bob, "runs/create", {"experiment_id": number}).status_code == 200
    user(server, "grant", "bob", number, "DENY")
    hidden = post(server, bob, "runs/search", {"experiment_ids": [number]})
    assert hidden.status_code == 403 or not hidden.json().get("runs")
    user(server, "grant", "bob", "of-ann", "DEFAULT")
    assert post(server, bob, "runs/search", {"experiment_ids": [number]}).json()["runs"]

    listed = {each["name"]: each for each in user(server, "list")["accounts"]}
    assert listed["ann"]["owns"] == {"experiment": 1, "registered_model": 1}
    assert (listed["admin"]["admin"], listed["bob"]["owns"], listed["bob"]["roles"]) == (True, {}, ["people"])

    refused = user(server, "remove", "ann", code=2)
    assert "ann owns 1 experiment (of-ann) and 1 model (model-of-ann)" in refused["error"]["message"]
    gone = user(server, "remove", "ann", "--give-to", "bob")
    assert (gone["given_to"], [each["name"] for each in gone["owned"]]) == ("bob", ["of-ann", "model-of-ann"])
    server.run(["systemctl", "reload", "mlflow"])
    assert post(server, bob, "runs/create", {"experiment_id": number}).status_code == 200
    assert post(server, bob, "experiments/delete", {"experiment_id": number}).status_code == 200
    assert "ann" not in {each["name"] for each in user(server, "list")["accounts"]}


def test_an_administrator_may_do_everything(server: Sandbox) -> None:
    cleo = add(server, "cleo")
    number = post(server, cleo, "experiments/create", {"name": "of-cleo"}).json()["experiment_id"]
    chief = add(server, "chief@example.com", "--admin")
    assert post(server, chief, "experiments/delete", {"experiment_id": number}).status_code == 200
    assert user(server, "grant", "chief@example.com", "of-cleo", "READ")["administrator"] is True
    assert user(server, "remove", "cleo", "--leave")["given_to"] is None


def test_a_new_password_and_the_old_one(server: Sandbox) -> None:
    dora = add(server, "dora")
    url = f"http://{server.address}:5000/api/2.0/mlflow/users/current"
    assert dora.get(url, timeout=20).status_code == 200
    assert user(server, "passwd", "dora", stdin="another-long-one $`'\"\n")["old_one_passes_for_seconds"] == 60
    # What `passwd` says ends it: workers that still know the old one are replaced.
    server.run(["systemctl", "reload", "mlflow"])
    steps.until(lambda: dora.get(url, timeout=20).status_code == 401, "the old password is refused", 60)
    dora.auth = ("dora", "another-long-one $`'\"")
    assert dora.get(url, timeout=20).json()["user"]["username"] == "dora"


def test_passwords_are_asked_for_unseen_and_twice(server: Sandbox) -> None:
    ask, again = "at least 12 characters): ", "the same again: "
    shown = steps.on_terminal(server, ["mlflow-onprem", "user", "add", "typist"], (ask, "typed-password-1\n"), (again, "typed-password-1\n"))
    assert (shown.code, "made account typist" in shown.out, "typed-password" in shown.out) == (0, True, False)
    other = steps.on_terminal(server, ["mlflow-onprem", "user", "passwd", "typist"], (ask, "typed-password-1\n"), (again, "typed-password-2\n"))
    assert (other.code, "the two are not the same; nothing was changed" in other.out) == (2, True)
    # Who owns something: the same verb asks what becomes of it.
    typist = requests.Session()
    typist.trust_env = False
    typist.auth = ("typist", "typed-password-1")
    assert post(server, typist, "experiments/create", {"name": "of-typist"}).status_code == 200
    gone = steps.on_terminal(server, ["mlflow-onprem", "user", "remove", "typist"], ("Give it to which account?", "admin\n"))
    assert (gone.code, "1 experiment (of-typist): now admin manages them" in gone.out) == (0, True)


def test_plain_answers_to_what_cannot_be_done(server: Sandbox) -> None:
    def say(*words: str, stdin: str = f"{PASSWORD}\n", account: str | None = None) -> str:
        result = server.run(["mlflow-onprem", "user", *words], stdin=stdin, user=account, ok=(1, 2))
        assert "Traceback" not in result.err + result.out
        assert PASSWORD not in result.err + result.out
        return result.err

    assert "there is an account admin already" in say("add", "admin")
    assert "MLflow wants at least 12" in say("add", "short", stdin="elevenchars\n")
    assert "no password came on standard input" in say("add", "nobody", stdin="")
    assert "cannot be an account's name" in say("add", "a:b")
    assert "there is no account ghost" in say("passwd", "ghost")
    assert "rotate-credentials --only mlflow" in say("passwd", "admin")
    assert "the stack's own administrator" in say("remove", "admin")
    assert "there is no experiment Defualt" in say("grant", "admin", "Defualt", "READ")
    assert "did you mean Default?" in say("grant", "admin", "Defualt", "READ")
    assert "run it with sudo" in say("list", account="nobody")
    server.run(["systemctl", "stop", "mlflow"])
    assert "MLflow is not running" in say("list")
    server.run(["systemctl", "start", "mlflow"])
    assert user(server, "list")["accounts"]


def test_no_password_is_left_behind(server: Sandbox) -> None:
    assert PASSWORD not in server.journal()
    assert PASSWORD not in server.read("/var/log/postgresql/postgresql-15-main.log").decode()
