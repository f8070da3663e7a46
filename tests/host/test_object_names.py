"""A file beside a folder of its name, and other names that a store would lose: refused; found, kept and restored where they exist already."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from mlflow_onprem_sandbox import Sandbox

from mlflow_onprem.core.host import Result
from tests.host import steps
from tests.host.clients import variables
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
HERE = Path(__file__).parent
ENVIRONMENT = "/opt/mlflow-onprem/environments/current/bin"
CLI_PYTHON = "/opt/mlflow-onprem/cli/bin/python"
BUCKET = "/opt/minio/data/mlflow"
OLD = "/var/backups/old"
#: The command as a release was that trusted the store's listing.
OLD_RELEASE = f"""
import sys
from mlflow_onprem.clients import store_disk
from mlflow_onprem.cli import main
store_disk.bucket_folder = lambda *_: None
sys.argv = ["mlflow-onprem", "backup", "create", "--to", "{OLD}", "--json"]
main()
"""
DELETE = """
import os, sys, requests
account = os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]
requests.delete(sys.argv[1], auth=account).raise_for_status()
"""
RACE = """
import json, sys, threading, urllib.parse, requests
env = json.loads(sys.argv[1])
auth = (env["MLFLOW_TRACKING_USERNAME"], env["MLFLOW_TRACKING_PASSWORD"])
url = env["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow-artifacts/artifacts/0/race/artifacts/"
pairs = []
for number in range(40):
    barrier, answers = threading.Barrier(2), []
    def put(name):
        barrier.wait()
        answers.append(requests.put(url + name, data=b"x", auth=auth).status_code)
    both = [threading.Thread(target=put, args=(name,)) for name in (f"r{number}", f"r{number}/a/b")]
    [each.start() for each in both]
    [each.join() for each in both]
    pairs.append(sorted(answers))
print(json.dumps(pairs))
"""


@pytest.fixture(scope="module")
def server(module_host: HostFactory) -> Sandbox:
    made = module_host()
    steps.install(made)  # its address may be another than the layer was made with
    return made


def client(server: Sandbox, *task: str) -> Any:
    """One task of names_client.py."""
    server.push(HERE / "names_client.py", "/root/names_client.py")
    environment = {**variables(server), "GIT_PYTHON_REFRESH": "quiet"}
    return json.loads(server.run([f"{ENVIRONMENT}/python", "/root/names_client.py", *task], env=environment, timeout=300).out.splitlines()[-1])


def command(server: Sandbox, *words: str, ok: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """A command's JSON."""
    answer: dict[str, Any] = json.loads(server.run(["mlflow-onprem", *words, "--json"], timeout=900, ok=ok).out)
    return answer


def in_store(server: Sandbox, text: str) -> str:
    """A statement with `c`, the store's administrator, behind MLflow's back."""
    begin = "import io, json; from minio import Minio; s = json.load(open('/etc/mlflow-onprem/credentials.json')); "
    connect = "c = Minio(endpoint='127.0.0.1:9000', access_key=s['minio_root_user'], secret_key=s['minio_root_password'], secure=False); "
    return server.run([CLI_PYTHON, "-c", begin + connect + text]).out


def on_disk(server: Sandbox, run: str) -> set[str]:
    """Every file of a run, whatever the store lists."""
    found = server.run(["find", BUCKET, "-path", f"*/{run}/artifacts/*", "-type", "f", "-name", "xl.meta", "-printf", "%P\n"]).out.splitlines()
    return {each.partition("/artifacts/")[2].removesuffix("/xl.meta") for each in found}


def test_names_come_back_or_are_refused(server: Sandbox) -> None:
    seen = client(server, "names")
    assert seen["downloaded"] == seen["sent"]
    assert seen["listed"] == sorted(seen["sent"])


def test_a_file_beside_a_folder_is_refused_by_every_call_and_costs_nothing(server: Sandbox) -> None:
    seen = client(server, "refusals")
    for name, answer in seen["answers"].items():
        assert "400" in (answer or "stored"), name
        assert "cannot be stored" in answer, name
    assert "'config' is a file" in seen["answers"]["below"]
    assert "there is a folder of that name" in seen["answers"]["large"]
    assert seen["downloaded"] == {"config": "again", "x/y/z/w.txt": "first"}
    assert on_disk(server, seen["run"]) == {"config", "x/y/z/w.txt"}


def test_two_workers_cannot_pass_each_other(server: Sandbox) -> None:
    workers = int(server.run(["sh", "-c", "pgrep -c -P $(pgrep -P $(systemctl show -P MainPID mlflow.service)) || true"]).out or 0)
    pairs = json.loads(server.run([CLI_PYTHON, "-c", RACE, json.dumps(variables(server))], timeout=300).out)
    assert pairs == [[200, 400]] * 40, workers
    assert len(on_disk(server, "race")) == 40


def test_what_is_hidden_already_is_found_kept_and_brought_back(server: Sandbox) -> None:
    """The whole way of a host that has such files: an old backup called what it is, a new one, a restore, doctor's way out, gc."""
    run = client(server, "refusals")["run"]
    # As an earlier release, or a client with the store's keys, has made it.
    base = f"0/{run}/artifacts"
    for name in ("config/train.yaml", "config/deep/er/x.bin", "config/train.yaml/under"):
        in_store(server, f"c.put_object('mlflow', '{base}/{name}', io.BytesIO({name!r}.encode() * 20000), {len(name) * 20000})")
    hidden = {f"{base}/config/train.yaml", f"{base}/config/deep/er/x.bin", f"{base}/config/train.yaml/under"}
    assert "config/train.yaml" not in client(server, "read", run)["listed"]

    server.run([CLI_PYTHON, "-c", OLD_RELEASE], timeout=300)
    old = command(server, "backup", "verify", "--to", OLD, ok=(1,))
    assert ({each for each in old["lacking"] if run in each}, old["complete"], old["damaged"]) == (hidden, False, [])
    text = server.run(["mlflow-onprem", "backup", "verify", "--to", OLD], ok=(1,)).out
    assert "is incomplete: " in text
    assert f"{base}/config/train.yaml" in text

    made = server.run(["mlflow-onprem", "backup", "create"], timeout=300)
    assert "of the objects are hidden" in made.out
    new = command(server, "backup", "verify")
    assert (new["complete"], new["lacking"]) == (True, [])

    # Lost, and a folder of the backup has become a file since.
    in_store(server, f"[c.remove_object('mlflow', key) for key in {sorted(hidden)!r} + ['{base}/x/y/z/w.txt']]")
    in_store(server, f"c.put_object('mlflow', '{base}/x/y', io.BytesIO(b'in the way'), 10)")
    restored = command(server, "restore", new["id"])
    assert any("would have hidden" in note for note in restored["notes"]), restored["notes"]
    assert on_disk(server, run) == {"config", "x/y/z/w.txt"} | {each.removeprefix(f"{base}/") for each in hidden}
    assert in_store(server, f"print(c.get_object('mlflow', '{base}/config/train.yaml').read(5))").strip() == "b'confi'"

    finding = _doctor(server)
    assert finding["level"] == "error"
    for name in ("config/train.yaml", "config/deep/er/x.bin", "config/train.yaml/under"):
        assert f"run {run} of experiment 0: {name}, hidden by the file config" in finding["what"]
    _follow(server, finding["fix"])
    _follow(server, _doctor(server)["fix"])  # train.yaml, in its turn
    assert _doctor(server)["level"] == "ok"
    assert set(client(server, "read", run)["listed"]) == {
        "config.file/config", "config/train.yaml.file/train.yaml", "config/train.yaml/under", "config/deep/er/x.bin", "x/y/z/w.txt",
    }  # fmt: skip


def test_gc_takes_all_of_a_run(server: Sandbox) -> None:
    run = client(server, "refusals")["run"]
    for name in ("config/a", "config/a/b", "config/a/b/c"):
        in_store(server, f"c.put_object('mlflow', '0/{run}/artifacts/{name}', io.BytesIO(b'x'), 1)")
    client(server, "delete", run)
    done = command(server, "gc", "--older-than", "0s")
    assert (done["failed"], done["removed"]["run"]) == ([], 1)
    assert done["objects"] >= 5
    assert on_disk(server, run) == set()


def _doctor(server: Sandbox) -> dict[str, Any]:
    found = command(server, "doctor", ok=(0, 4))["findings"]
    finding: dict[str, Any] = next(each for each in found if each["check"] == "hidden files")
    return finding


def _follow(server: Sandbox, hint: str) -> Result:
    """Type what doctor says, as a person would."""
    environment = variables(server)
    commands = hint.partition("): ")[2].partition(". Then the files")[0]
    # A server of ours has no curl; a client has.
    commands = (
        commands.replace("curl -u NAME -X DELETE ", f"{CLI_PYTHON} -c {shlex.quote(DELETE)} ")
        .replace("; mlflow", " && mlflow")
        .replace("; /opt", " && /opt")
    )
    script = f"export PATH={ENVIRONMENT}:$PATH; cd $(mktemp -d) && {commands}"
    return server.run(["sh", "-c", script], env={**environment, "GIT_PYTHON_REFRESH": "quiet"}, timeout=300)
