"""A bundle made on a connected machine is all that a host without a network needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox

from mlflow_onprem.bundle.command import create
from mlflow_onprem.settings.config import Config, MinioSection
from mlflow_onprem.system.local_host import LocalHost
from tests.host import rest, steps
from tests.host.conftest import RELEASE, HostFactory

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def bundle(config: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Half a gigabyte, removed afterwards."""
    url, sha256 = re.findall(r'"(.+)"', config)
    target = tmp_path_factory.mktemp("bundle") / "bundle.tar"
    create(LocalHost(), Config(minio=MinioSection(url=url, sha256=sha256)), target, RELEASE, "amd64", lambda _: None)
    yield target
    target.unlink()


@pytest.fixture
def alone(host: HostFactory, base: Layer, bundle: Path) -> Sandbox:
    """A plain server that reaches nothing, with the bundle copied to it, and no configuration."""
    server = host(base, network="isolated")
    server.push(bundle, "/root/bundle.tar")
    server.run(["tar", "-x", "-f", "/root/bundle.tar", "-C", "/root", "bootstrap"])
    return server


@pytest.mark.long  # not seen green since the modules moved
def test_bootstrap_and_install_end_healthy_without_a_network(alone: Sandbox) -> None:
    assert "default" not in alone.run(["ip", "route"]).out
    said = alone.run(["/root/bootstrap", "--bundle", "/root/bundle.tar"], timeout=300)
    assert "wrote /etc/mlflow-onprem/config.toml: what this bundle was made for" in said.out
    steps.install(alone)
    code, answer = steps.status(alone)
    assert (code, answer["healthy"]) == (0, True)
    assert rest.is_there(alone, rest.log(alone))
    assert steps.plan(alone)[0] == 0
    assert alone.run(["mlflow-onprem", "doctor"], ok=steps.ANY, timeout=180).code == 0
    # The program is known by its sha256; where it once came from is out of reach. And a configuration that is there stays as it is.
    mine = re.sub(r'url = ".*"', 'url = "https://store.invalid/minio"', alone.read("/etc/mlflow-onprem/config.toml").decode())
    alone.write("/etc/mlflow-onprem/config.toml", mine)
    assert steps.plan(alone)[0] == 0
    assert "left /etc/mlflow-onprem/config.toml as it is" in alone.run(["/root/bootstrap", "--bundle", "/root/bundle.tar"], timeout=300).out
    assert alone.read("/etc/mlflow-onprem/config.toml").decode() == mine


@pytest.mark.long  # not seen green since the modules moved
def test_a_damaged_bundle_is_refused_before_anything_is_done(alone: Sandbox) -> None:
    # One byte in the middle of the file.
    alone.run(["dd", "if=/dev/zero", "of=/root/bundle.tar", "bs=1", "count=64", "seek=250000000", "conv=notrunc"])
    refused = alone.run(["/root/bootstrap", "--bundle", "/root/bundle.tar"], ok=(1,), timeout=300)
    assert "is damaged" in refused.err
    assert alone.run(["ls", "/opt/mlflow-onprem"]).out.split() == ["bundle.new"]
    assert alone.run(["which", "python3", "mlflow-onprem"], ok=steps.ANY).out == ""
