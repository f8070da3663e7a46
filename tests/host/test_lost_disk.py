"""The data folder's disk is not mounted after a reboot: the store does not start on the empty folder below it, and everybody is told why."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mlflow_onprem_sandbox import Sandbox

from tests.host import steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host

FSTAB = "/srv/disk /opt/minio/data none bind,nofail 0 0\n"


@pytest.mark.long  # not seen green since the modules moved
def test_a_store_without_its_disk_waits_for_it(host: HostFactory) -> None:
    server = host()
    server.run(["systemctl", "stop", "minio.service"], timeout=150)
    server.run(["mv", "/opt/minio/data", "/srv/disk"])
    server.run(["install", "-d", "-o", "minio", "-g", "minio", "-m", "0750", "/opt/minio/data"])
    server.write("/etc/fstab", FSTAB)
    server.run(["systemctl", "daemon-reload"])
    server.run(["systemctl", "start", "minio.service"], timeout=150)  # it pulls its mount in
    assert "/opt/minio/data" in server.run(["findmnt", "-n", "/opt/minio/data"]).out
    steps.assert_as_wanted(server)

    server.write("/etc/fstab", "")
    server.run(["systemctl", "stop", "minio.service"], timeout=150)
    server.run(["umount", "/opt/minio/data"])
    server.run(["systemctl", "daemon-reload"])
    server.run(["systemctl", "start", "minio.service"], ok=steps.ANY, timeout=150)
    assert store(server)["healthy"] is False
    assert "is its disk mounted?" in store(server)["detail"]
    refused = steps.attempt(server)
    assert refused.code == 1
    assert "the object store's data is not in /opt/minio/data, where it was" in refused.err
    assert server.run(["ls", "-A", "/opt/minio/data"]).out == ""

    server.run(["mount", "--bind", "/srv/disk", "/opt/minio/data"])
    steps.install(server)
    assert steps.status(server)[0] == 0
    steps.assert_as_wanted(server)


def store(server: Sandbox) -> dict[str, Any]:
    """What `status` says of the object store, to somebody who is not root."""
    answer = json.loads(server.run(["mlflow-onprem", "status", "--json"], user="nobody", ok=(0, 4)).out)
    found: dict[str, Any] = next(each for each in answer["services"] if each["name"] == "minio")
    return found
