"""Every feature that is used of a store is tried first: the built MinIO has all, another S3 server lacks some and is refused by name."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer
from uv import find_uv_bin

from mlflow_onprem.clients.object_store import MinioStore
from mlflow_onprem.clients.store_errors import StoreUnreachable
from mlflow_onprem.core.secret import Secret
from tests.host import steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
MOTO = "moto[server]==5.1.17"  # an S3 server that lets everybody in, whatever their key
KEY, SECRET = "a-key-of-the-test", "a-secret-of-the-test"


@contextmanager
def serving(argv: list[str], port: int, folder: Path) -> Iterator[MinioStore]:
    """A store on this machine's loopback."""
    environment = {**os.environ, "MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": SECRET, "MINIO_UPDATE": "off", "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
    store = MinioStore(f"http://127.0.0.1:{port}", KEY, Secret(SECRET))

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        try:
            return not store.has_bucket("never-made")
        except StoreUnreachable:
            return False

    try:
        steps.until(answers, "the store serves", 120)
        yield store
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.long  # not seen green since the modules moved
def test_minio_built_from_source_has_everything(store: Path, tmp_path: Path) -> None:
    port = 20_000 + secrets.randbelow(9_000)
    argv = [str(store), "server", "--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{port + 1}", str(tmp_path / "data")]
    with serving(argv, port, tmp_path) as found:
        assert found.lacks("mlflow-onprem-check-administered", None, presigned=True) == ()
        assert found.client().list_buckets() == [], "nothing stays behind"
        found.make_bucket("theirs")
        assert found.lacks("mlflow-onprem-check-external", "theirs", presigned=True) == ()
        assert list(found.client().list_objects("theirs", recursive=True)) == []


@pytest.mark.long  # not seen green since the modules moved
def test_install_tries_the_store_once(host: HostFactory) -> None:
    server = host()
    note = json.loads(server.read("/var/lib/mlflow-onprem/store-features.json"))
    assert note["lacks"] == []
    steps.assert_as_wanted(server)
    assert steps.install(server)["changed"] == []
    server.run(["rm", "/var/lib/mlflow-onprem/store-features.json"])
    assert steps.install(server)["changed"] == ["store-features"]
    assert server.run(["ls", "/opt/minio/data"]).out.split() == ["mlflow"]


@pytest.mark.long
def test_a_store_that_lacks_something_is_refused_by_name(host: HostFactory, bootstrapped: Layer) -> None:
    """A server that takes any secret, and a program that is none: both named, with nothing built on them."""
    server = host(bootstrapped)
    server.push(Path(find_uv_bin()), "/usr/local/bin/uv")
    server.run(["/usr/local/bin/uv", "venv", "--quiet", "--python", "/usr/bin/python3", "/opt/other"])
    server.run(["/usr/local/bin/uv", "pip", "install", "--quiet", "--python", "/opt/other/bin/python", MOTO], timeout=600)
    server.run(["systemd-run", "--quiet", "--unit=other-store", "/opt/other/bin/moto_server", "-p", "9900"])
    steps.until(lambda: ":9900 " in server.run(["ss", "-Hltn"]).out, "the other store serves", 60)
    server.write("/etc/mlflow-onprem/external-s3", f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n", mode=0o600)
    external = '[minio]\nmode = "external"\nendpoint = "http://127.0.0.1:9900"\ncredentials_file = "/etc/mlflow-onprem/external-s3"\n'
    failed = steps.attempt(server, external)
    assert failed.code == 1
    assert "cannot do 1 thing that this stack needs" in failed.err
    assert "keys are checked (nobody reads artifacts without a key): it lets somebody in who does not know the secret key" in failed.err
    assert server.run(["systemctl", "cat", "mlflow"], ok=steps.ANY).code != 0, "nothing was built on it"

    digest = server.run(["sha256sum", "/usr/bin/true"]).out.split()[0]
    failed = steps.attempt(server, f'[minio]\nurl = "/usr/bin/true"\nsha256 = "{digest}"\n')
    assert failed.code == 1
    assert "its program never said that it is ready" in failed.err
