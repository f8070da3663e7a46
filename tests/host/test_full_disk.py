"""Objects and PostgreSQL on small disks, out of bytes or of inodes: every command says so, `gc` works, and all is well afterwards."""

from __future__ import annotations

import json

import pytest
from mlflow_onprem_sandbox import Sandbox

from tests.host import rest, steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host

DISKS = {"minio": ("/opt/minio/data", "minio.service"), "postgres": ("/var/lib/postgresql", "postgresql@15-main.service")}
INODES = 6000
USE_INODES = """
import itertools, sys
try:
    for number in itertools.count():
        open(f"{sys.argv[1]}/{number}", "w").close()
except OSError:
    pass
"""
USE_BYTES = 'dd if=/dev/zero of="$1/fill" bs=1M 2>/dev/null; true'


@pytest.fixture(scope="module")
def server(module_host: HostFactory) -> Sandbox:
    """Both folders on small filesystems of their own."""
    made = module_host()
    for folder, unit in DISKS.values():
        made.run(["systemctl", "stop", unit], timeout=150)
        made.run(["mv", folder, f"{folder}.was"])
        made.run(["mkdir", folder])
        made.run(["mount", "-t", "tmpfs", "-o", f"size=400m,nr_inodes={INODES}", "tmpfs", folder])
        made.run(["chown", f"--reference={folder}.was", folder])
        made.run(["chmod", f"--reference={folder}.was", folder])
        made.run(["cp", "-a", f"{folder}.was/.", folder])
        made.run(["systemctl", "start", unit], timeout=150)
    steps.install(made)
    return made


@pytest.mark.parametrize(("service", "kind"), [("minio", "inodes"), ("postgres", "bytes")])
def test_a_full_disk_is_named_by_every_command_and_does_no_lasting_harm(server: Sandbox, service: str, kind: str) -> None:
    folder, unit = DISKS[service]
    server.run(["mkdir", f"{folder}/fill"])
    server.run(["python3", "-c", USE_INODES, f"{folder}/fill"] if kind == "inodes" else ["sh", "-c", USE_BYTES, "sh", f"{folder}/fill"])
    said = f"the disk is full: {folder} has "
    found = next(each for each in steps.status(server, user="nobody")[1]["services"] if each["name"] == service)
    assert (found["healthy"], said in found["detail"], "gc" in found["fix"]) == (False, True, True), found
    doctor = json.loads(server.run(["mlflow-onprem", "doctor", "--json"], ok=(4,), timeout=120).out)
    assert [each["level"] for each in doctor["findings"] if each["check"] == "disk" and said in each["what"]] == ["error"]
    refused = steps.attempt(server)
    assert (refused.code, said in refused.err, "sudo mlflow-onprem gc" in refused.err) == (1, True, True), refused.err

    server.run(["systemctl", "restart", unit], ok=steps.ANY, timeout=150)
    server.run(["rm", "-r", f"{folder}/fill"])
    steps.install(server)
    assert steps.status(server)[0] == 0
    assert rest.is_there(server, rest.log(server))


def test_gc_frees_a_disk_without_inodes(server: Sandbox) -> None:
    """Runs are deleted, then the last inode goes: what was deleted leaves the disk all the same, and gives inodes back."""
    logged = [rest.log(server) for _ in range(3)]
    folder = DISKS["minio"][0]
    server.run(["mkdir", f"{folder}/fill"])
    for each in logged:
        rest.door(server).call("POST", "runs/delete", {"run_id": each.run})
    server.run(["python3", "-c", USE_INODES, f"{folder}/fill"])
    removed = json.loads(server.run(["mlflow-onprem", "gc", "--json", "--older-than", "0s"], timeout=300).out)
    assert removed["removed"] == {"run": 3}
    assert int(server.run(["stat", "-f", "-c", "%d", folder]).out) > 0
    server.run(["rm", "-r", f"{folder}/fill"])
    steps.install(server)
