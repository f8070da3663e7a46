"""Artifacts come back byte for byte from the real store, whatever their names, by each way and client; a large one takes no room on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox

from tests.host import steps
from tests.host.clients import EVERY_VERSION, VERSIONS, variables
from tests.host.conftest import HostFactory
from tests.host.packed_client import NAMES

pytestmark = pytest.mark.host
CLIENT, SERVER = (Path(__file__).with_name(name) for name in ("packed_client.py", "download_server.py"))
LARGE_MIB = 512


@pytest.fixture(scope="module")
def server(module_host: HostFactory) -> Sandbox:
    return module_host()


@pytest.fixture(scope="module")
def client(module_host: HostFactory, clients: Layer) -> Sandbox:
    """Another machine."""
    return module_host(clients, hostname="client")


def on_client(client: Sandbox, version: str, given: dict[str, str], *arguments: str) -> dict[str, Any]:
    client.push(CLIENT, "/root/packed_client.py")
    done = client.run([f"/opt/mlflow-{version}/bin/python", "/root/packed_client.py", *arguments], env=given, timeout=120)
    answer: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    return answer


def on_server(server: Sandbox, *arguments: str, stdin: str = "") -> dict[str, Any]:
    server.push(SERVER, "/root/download_server.py")
    python = "/opt/mlflow-onprem/environments/current/bin/python"
    key = {"AWS_SHARED_CREDENTIALS_FILE": "/etc/mlflow-onprem/mlflow/s3-credentials"}
    answer: dict[str, Any] = json.loads(server.run([python, "/root/download_server.py", *arguments], env=key, stdin=stdin, timeout=300).out)
    return answer


def test_packed_files_and_long_names_come_back_as_they_went(server: Sandbox, client: Sandbox, config: str) -> None:
    """By presigned URL and through the server, in every client, also where the store holds an encoding from before."""
    steps.install(server, steps.configured(config, minio='bind = "0.0.0.0"\n', mlflow='artifacts = "presigned"'))
    given = variables(server)
    logged = on_client(client, VERSIONS[0], given, "up")
    right = dict.fromkeys(NAMES, True)
    for version in EVERY_VERSION:
        assert on_client(client, version, given, "down", logged["run"]) == right
    assert on_server(server, "encode", str(logged["uri"]).partition(":/")[2])["encoded"] >= 8
    for version in EVERY_VERSION:
        assert on_client(client, version, given, "down", logged["run"]) == right
    steps.install(server, config)
    for version in EVERY_VERSION:
        assert on_client(client, version, given, "down", logged["run"]) == right


@pytest.mark.long  # not seen green since the modules moved
def test_a_large_file_takes_neither_disk_nor_memory(server: Sandbox) -> None:
    given = variables(server)
    account = f"{given['MLFLOW_TRACKING_USERNAME']}:{given['MLFLOW_TRACKING_PASSWORD']}"
    found = on_server(server, "large", str(LARGE_MIB), stdin=account)
    assert (found["status"], found["received"]) == (200, LARGE_MIB << 20)
    assert found["grown"] < 100, found
    # Nothing but the names that uploads hold for a moment.
    assert found["spooled"] < 1 << 20, found
