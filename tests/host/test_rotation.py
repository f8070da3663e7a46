"""rotate-credentials on real hosts: under load, killed anywhere, with things down or full, in every part and mode."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, product

from mlflow_onprem.core.host import Result
from tests.host import steps
from tests.host.clients import VERSIONS
from tests.host.conftest import HostFactory
from tests.host.test_external import KEY, PASSWORD, PROVIDE, SECRET, database_layer

pytestmark = pytest.mark.host
HERE = Path(__file__).parent
PYTHON = "/opt/mlflow-onprem/cli/bin/python"
CREDENTIALS = "/etc/mlflow-onprem/credentials.json"
KILLED = 128 + 9
PERSON, PERSONS_PASSWORD = "ann", "a-password-of-her-own"
ALL_DEAD = {"s3": False, "root": False, "role": False, "administrator": False}
ALL_ALIVE = dict.fromkeys(ALL_DEAD, True)
EVERY_SECRET = {
    "s3-access-key", "postgres-password", "mlflow-admin-password", "flask-secret-key", "kek-passphrase", "webhook-key", "minio-root-password",
}  # fmt: skip


def rotate(server: Sandbox, *words: str) -> dict[str, Any]:
    """A rotation that must succeed, and its report."""
    answer: dict[str, Any] = json.loads(server.run(["mlflow-onprem", "rotate-credentials", "--json", *words], timeout=900).out)
    return answer


def try_rotate(server: Sandbox, *words: str) -> Result:
    return server.run(["mlflow-onprem", "rotate-credentials", *words], timeout=900, ok=steps.ANY)


def held(server: Sandbox) -> str:
    """The credentials file's text."""
    return server.read(CREDENTIALS).decode()


def accepted(server: Sandbox, text: str) -> dict[str, bool]:
    """Which of these secrets are accepted, each tried for real."""
    server.push(HERE / "old_secrets.py", "/root/old_secrets.py")
    found: dict[str, bool] = json.loads(server.run([PYTHON, "/root/old_secrets.py"], stdin=text, timeout=300).out)
    return found


def shows_none(text: str, *files: str) -> bool:
    """Whether no value of these credentials files stands in a text; names are not secret."""
    values = [value for file in files for name, value in json.loads(file).items() if name.endswith(("password", "key", "passphrase"))]
    return not [value for value in values if isinstance(value, str) and not value.isupper() and value in text]


@contextmanager
def load(client: Sandbox, server: Sandbox, threads: int, fewest: int) -> Iterator[dict[str, Any]]:
    """An ordinary user's work meanwhile; what became of it stands in the mapping afterwards."""
    server.run(["mlflow-onprem", "user", "add", PERSON], stdin=f"{PERSONS_PASSWORD}\n")
    client.push(HERE / "load_client.py", "/root/load_client.py")
    account = {"MLFLOW_TRACKING_USERNAME": PERSON, "MLFLOW_TRACKING_PASSWORD": PERSONS_PASSWORD}
    quiet = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    environment = {"MLFLOW_TRACKING_URI": f"http://{server.address}:5000", **account, **quiet}
    argv = [
        "env",
        *(f"{name}={value}" for name, value in environment.items()),
        f"/opt/mlflow-{VERSIONS[0]}/bin/python",
        "/root/load_client.py",
        str(threads),
        str(fewest),
        "/root/enough",
    ]
    client.run(["rm", "-f", "/root/enough"])
    began, found = threading.Event(), {}

    def heard(line: str) -> None:
        began.set()
        if line.startswith("{"):
            found.update(json.loads(line))

    worker = threading.Thread(target=lambda: client.follow(argv, heard, both=True))
    worker.start()
    try:
        assert began.wait(60), "the load does not begin"
        yield found
    finally:
        client.run(["touch", "/root/enough"])
        worker.join(900)
    assert found, "the load broke off"


def nothing_lost(found: dict[str, Any]) -> None:
    assert (found["failed"], found["wrong"]) == ([], []), found


@pytest.mark.long
def test_three_rotations_under_load(host: HostFactory, clients: Layer, capsys: pytest.CaptureFixture[str]) -> None:
    """Eight clients, a thousand requests and more: nothing fails, nothing is lost or double, every byte is right, every old secret is dead."""
    server, client = host(), host(clients, hostname="client")
    before = [held(server)]
    assert accepted(server, before[0]) == ALL_ALIVE
    pid = steps.show(server, "mlflow.service", "MainPID", "InvocationID")
    seconds = []
    with load(client, server, threads=8, fewest=1000) as found:
        for _ in range(3):
            report = rotate(server)
            assert set(report["rotated"]) == EVERY_SECRET
            assert set(report["refused"]) == {"s3-access-key", "postgres-password", "mlflow-admin-password", "minio-root-password"}
            seconds.append(report["seconds"])
            before.append(held(server))
            assert shows_none(json.dumps(report), *before)
    nothing_lost(found)
    assert found["calls"] >= 1000
    with capsys.disabled():
        print(
            f"\n  3 rotations of {', '.join(map(str, seconds))} s under {found['calls']} calls of 8 clients in {found['seconds']} s: "
            f"{len(found['failed'])} failed, {len(found['retries'])} tried again, the longest took {found['longest_stall_seconds']} s "
            f"({found['longest_stall_in']})"
        )
    assert steps.show(server, "mlflow.service", "MainPID", "InvocationID") == pid, "MLflow was restarted"
    assert [accepted(server, each) for each in before] == [ALL_DEAD, ALL_DEAD, ALL_DEAD, ALL_ALIVE]
    server.run(["systemctl", "restart", "minio.service", "mlflow.service"])
    assert [accepted(server, each) for each in before[-2:]] == [ALL_DEAD, ALL_ALIVE], "a withdrawn secret is back after a restart"
    steps.assert_as_wanted(server)
    assert shows_none(server.journal(), *before)


@pytest.mark.long
def test_killed_at_every_step_under_load(host: HostFactory, clients: Layer) -> None:
    """Killed after every change and in the middle of every reload and restart; `install` and the command itself go on in turns."""
    server, client = host(), host(clients, hostname="client")
    server.push(HERE / "rotate_killer.py", "/root/rotate_killer.py")
    old, places = held(server), 0
    with load(client, server, threads=2, fewest=100) as found:
        while True:
            command = "install" if places % 3 == 2 else "rotate-credentials"
            result = server.run(["sh", "-c", f"{PYTHON} /root/rotate_killer.py /root/places {command}; exit $?"], ok=steps.ANY, timeout=600)
            if result.code == 0:
                break
            assert result.code == KILLED, f"after {places} kills: {result.err[-2000:]}"
            places += 1
            assert places < 100, server.read("/root/places").decode()
    nothing_lost(found)
    killed_at = server.read("/root/places").decode()
    for place in (
        "pending access-key",
        "current service:mlflow.service",
        "systemctl reload mlflow.service",
        "current account:admin",
        "previous access-key",
        "root systemctl restart minio.service",
        "none file:/etc/mlflow-onprem/credentials.json",
    ):
        assert place in killed_at, killed_at
    assert (accepted(server, old), accepted(server, held(server))) == (ALL_DEAD, ALL_ALIVE)
    assert "rotation" not in json.loads(held(server))
    steps.assert_as_wanted(server)


@pytest.mark.long
def test_each_part_by_itself_twice_at_once_and_with_things_down(host: HostFactory) -> None:
    server = host()
    for group, dead in {"s3": "s3", "postgres": "role", "mlflow": "administrator", "minio-root": "root"}.items():
        old = held(server)
        report = rotate(server, "--only", group)
        assert report["rotated"]
        assert accepted(server, old) == {**ALL_ALIVE, dead: False}, group
        assert accepted(server, held(server)) == ALL_ALIVE

    # A second one while the first one works.
    running: list[Result] = []
    first = threading.Thread(target=lambda: running.append(try_rotate(server)))
    first.start()
    steps.until(lambda: "rotation" in json.loads(held(server)), "the first rotation began")
    second = try_rotate(server)
    assert (second.code, "another mlflow-onprem command is running" in second.err) == (1, True)
    first.join(600)
    assert running[0].code == 0

    # Whatever is down is started first.
    for unit in steps.UNITS:
        old = held(server)
        server.run(["systemctl", "stop", unit])
        assert set(rotate(server)["rotated"]) == EVERY_SECRET, unit
        assert accepted(server, old) == ALL_DEAD

    # What cannot be started ends it before the first change.
    old = held(server)
    server.run(["mv", "/usr/lib/postgresql/15/bin/postgres", "/root/postgres"])
    server.run(["systemctl", "stop", "postgresql@15-main"])
    refused = try_rotate(server)
    assert refused.code == 1
    assert "postgresql@15-main" in refused.err
    assert held(server) == old
    server.run(["mv", "/root/postgres", "/usr/lib/postgresql/15/bin/postgres"])
    assert set(rotate(server)["rotated"]) == EVERY_SECRET

    # New workers cannot start, for they find no connection: the old ones serve on with the old secrets, and the next run goes on.
    old = held(server)
    steps.psql(server, "ALTER ROLE mlflow_user CONNECTION LIMIT 1")
    broken = try_rotate(server, "--only", "mlflow")
    assert (broken.code, "new workers did not start" in broken.err) == (1, True), broken.err
    steps.psql(server, "ALTER ROLE mlflow_user CONNECTION LIMIT -1")
    assert accepted(server, old) == ALL_ALIVE
    assert set(rotate(server)["rotated"]) == EVERY_SECRET
    assert (accepted(server, old), accepted(server, held(server))) == (ALL_DEAD, ALL_ALIVE)


def test_what_older_keys_closed_is_closed_anew_and_a_lost_password_is_replaced(host: HostFactory) -> None:
    """A webhook's and a gateway's secret are readable after a rotation; an administrator's password that was changed by hand is ours again."""
    server = host()
    server.push(HERE / "closed_secrets.py", "/root/closed_secrets.py")
    settings = ["--property=User=mlflow", "--property=EnvironmentFile=/etc/mlflow-onprem/mlflow.env"]
    settings += ["--setenv=PYTHONPATH=/opt/mlflow-onprem/server/current", "--quiet", "--wait", "--pipe"]
    python = ["systemd-run", *settings, "/opt/mlflow-onprem/environments/current/bin/python", "/root/closed_secrets.py"]
    server.run(["chmod", "755", "/root"])
    # MLflow wants a webhook's host to have a public address; nothing is ever sent there.
    server.run(["sh", "-c", "echo 8.8.8.8 hook.example.com >> /etc/hosts"])
    made = json.loads(server.run([*python, "make"], timeout=120).out.splitlines()[-1])
    for _ in range(2):
        old = json.loads(held(server))
        rotate(server, "--only", "mlflow")
        assert json.loads(held(server))["webhook_key"] != old["webhook_key"]
        assert json.loads(server.run([*python, "read"], timeout=120).out.splitlines()[-1]) == made
    keys = server.read("/etc/mlflow-onprem/mlflow/kek-passphrase").decode().splitlines()
    assert keys == [json.loads(held(server))["kek_passphrase"]]

    found = json.loads(held(server))
    body = json.dumps({"username": "admin", "password": "changed-by-hand-1", "current_password": found["mlflow_admin_password"]})
    request = (
        "import json, requests, sys; body = json.load(sys.stdin); account = (body['username'], body['current_password'])\n"
        "print(requests.patch('http://127.0.0.1:5000/api/2.0/mlflow/users/update-password', json=body, auth=account).status_code)"
    )
    assert server.run([PYTHON, "-c", request], stdin=body).out.strip() == "200"
    by_hand = json.dumps({**found, "mlflow_admin_password": "changed-by-hand-1"})
    assert accepted(server, by_hand)["administrator"]
    rotate(server, "--only", "mlflow")
    assert not accepted(server, by_hand)["administrator"]
    assert accepted(server, held(server)) == ALL_ALIVE


def test_a_full_disk(host: HostFactory) -> None:
    """Full from the start it is refused; full from its first step on, nothing in use is refused, and with room again it is done."""
    server = host(disk="6G")
    old = held(server)
    fill = ["sh", "-c", "dd if=/dev/zero of=/var/lib/fill bs=4k 2>/dev/null; sync"]
    server.run(fill, ok=steps.ANY, timeout=300)
    refused = try_rotate(server)
    server.run(["rm", "/var/lib/fill"])
    assert (refused.code, "the disk is full" in refused.err, held(server)) == (1, True, old), refused.err

    # Room for little more than what it asks for before it begins, so that the rest is full in no time.
    server.run(["sh", "-c", f"{fill[2]}; truncate -s -{32 << 20} /var/lib/fill; sync"], ok=steps.ANY, timeout=300)
    running: list[Result] = []
    rotation = threading.Thread(target=lambda: running.append(try_rotate(server)))
    rotation.start()
    steps.until(lambda: "rotation" in json.loads(held(server)) or bool(running), "the rotation began")
    server.run(["sh", "-c", "dd if=/dev/zero of=/var/lib/fill2 bs=4k 2>/dev/null; sync"], ok=steps.ANY, timeout=300)
    rotation.join(900)
    server.run(["sh", "-c", "rm /var/lib/fill /var/lib/fill2"])
    steps.until(lambda: steps.status(server)[0] == 0, "what the full disk took down is up again")
    now = json.loads(held(server))
    alive = accepted(server, json.dumps({name: value for name, value in now.items() if name != "rotation"}))
    assert alive == ALL_ALIVE, running[0].err
    rotate(server)
    assert (accepted(server, old), accepted(server, held(server))) == (ALL_DEAD, ALL_ALIVE)
    steps.assert_as_wanted(server)


def test_the_timer(host: HostFactory) -> None:
    """There where it is asked for, and not where it is no longer; its unit rotates what is due, hardened as it is."""
    server = host()
    config = server.read(product.CONFIG).decode()
    steps.install(server, f'{config}\n[rotation]\nevery = "90d"\n')
    assert steps.show(server, "mlflow-onprem-rotate.timer", "ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}
    old = held(server)
    server.run(["systemctl", "start", "mlflow-onprem-rotate.service"], timeout=600)
    assert held(server) == old, "nothing is due yet"

    record = json.loads(old)
    record["dates"]["webhook-key"] = "2026-01-01T00:00:00Z"
    server.write(CREDENTIALS, json.dumps(record), mode=0o600)
    steps.install(server)
    text = server.run(["mlflow-onprem", "status"], user="nobody").out
    assert "due for new ones: webhook-key" in text or "webhook-key" in text.partition("due for new ones")[2]
    old = held(server)
    server.run(["systemctl", "start", "mlflow-onprem-rotate.service"], timeout=600)
    assert accepted(server, old) == {**ALL_ALIVE, "administrator": False}
    assert all(each["due"] is False for each in steps.status(server, user="nobody")[1]["secrets"])
    steps.assert_as_wanted(server)

    steps.install(server, config)
    assert steps.show(server, "mlflow-onprem-rotate.timer", "ActiveState")["ActiveState"] == "inactive"
    assert server.run(["sh", "-c", "ls /etc/systemd/system | grep rotate"], ok=(1,)).out == ""
    steps.assert_as_wanted(server)


@pytest.mark.long  # not seen green since the modules moved
def test_services_that_are_not_ours(host: HostFactory, base: Layer, bootstrapped: Layer, clients: Layer, store: Path, say: product.Progress) -> None:
    """New secrets come from the user's files; the role's password is changed by the role itself while an ordinary user works."""
    provider = host(database_layer(base, say), hostname="provider")
    provider.push(store, "/usr/local/bin/minio")
    provider.run(["sh", "-c", PROVIDE % (PASSWORD, KEY, SECRET)])
    server = host(bootstrapped)

    def theirs(password: str, key: str, secret: str) -> None:
        server.write("/etc/mlflow-onprem/external-postgres", f"{password}\n", mode=0o600)
        server.write("/etc/mlflow-onprem/external-s3", f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n", mode=0o600)

    def lets_in(password: str) -> bool:
        argv = ["psql", "-h", provider.address, "-U", "theirs", "-d", "tracking", "-c", "SELECT 1"]
        return provider.run(argv, env={"PGPASSWORD": password}, ok=steps.ANY).code == 0

    theirs(PASSWORD, KEY, SECRET)
    steps.install(
        server,
        f'[minio]\nmode = "external"\nendpoint = "http://{provider.address}:9000"\ncredentials_file = "/etc/mlflow-onprem/external-s3"\n'
        f'[postgres]\nmode = "external"\nurl = "postgresql://theirs@{provider.address}:5432/tracking"\n'
        'password_file = "/etc/mlflow-onprem/external-postgres"\n',
    )
    for group in ("s3", "postgres"):
        refused = try_rotate(server, "--only", group)
        assert (refused.code, "put its new secret into" in refused.err) == (1, True)
    report = rotate(server)
    assert set(report["rotated"]) == {"mlflow-admin-password", "flask-secret-key", "kek-passphrase", "webhook-key"}
    assert {each["group"] for each in report["skipped"]} == {"s3", "postgres", "minio-root"}

    client = host(clients, hostname="client")
    made = (
        "import json, sys\nfrom mlflow_onprem.clients.bucket_policy import bucket_policy\n"
        "from mlflow_onprem.clients.object_store import MinioStore\nfrom mlflow_onprem.core.secret import Secret\n"
        "endpoint, user, password, key, secret = json.load(sys.stdin)\n"
        "MinioStore(endpoint, user, Secret(password)).add_key(key, Secret(secret), bucket_policy('mlflow'))"
    )
    new = ("a-new-password-with-:-in-it", "NEWKEYOFTHEIRS", "new-secret-of-theirs")
    server.run([PYTHON, "-c", made], stdin=json.dumps([f"http://{provider.address}:9000", KEY, SECRET, *new[1:]]))
    with load(client, server, threads=4, fewest=200) as found:
        theirs(*new)
        assert set(rotate(server)["rotated"]) == EVERY_SECRET - {"minio-root-password"}
        assert (lets_in(PASSWORD), lets_in(new[0])) == (False, True)
        assert new[1] in server.read("/etc/mlflow-onprem/mlflow/s3-credentials").decode()
        # Changed on the server first, by its owner; MLflow's connections live on until the file follows.
        steps.psql(provider, "ALTER ROLE theirs PASSWORD 'third-password'")
        theirs("third-password", *new[1:])
        assert rotate(server, "--only", "postgres")["rotated"] == ["postgres-password"]
    nothing_lost(found)
    steps.assert_as_wanted(server)

    # A key that the store does not know: nothing is changed.
    theirs("third-password", "NOBODYSKEY", "nobody's")
    wrong = try_rotate(server, "--only", "s3")
    assert wrong.code == 1
    assert new[1] in server.read("/etc/mlflow-onprem/mlflow/s3-credentials").decode()
    theirs("third-password", *new[1:])
    steps.assert_as_wanted(server)
