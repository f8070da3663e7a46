"""An umask of 027 or 077 (hardened images): everything has the modes we mean, and a host that was installed that way is repaired."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, product

from tests.host import steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
ENVIRONMENTS = "/opt/mlflow-onprem/environments"
#: What only root may read of what everybody should.
HIDDEN = ["find", "/opt/mlflow-onprem", "/opt/minio", "/usr/local", "-xdev", "-path", "/opt/minio/data", "-prune", "-o", "!", "-type", "l"]
HIDDEN += ["!", "-perm", "-go=r", "-print"]


def under(umask: str, server: Sandbox, command: str) -> str:
    """A command from a root shell of such an image."""
    return server.run(["sh", "-c", f"umask {umask}; {command}"], timeout=900).out


@pytest.mark.long
def test_a_host_installed_under_such_an_umask_is_repaired_and_nothing_is_made_anew(host: HostFactory) -> None:
    server = host()
    server.run(["systemctl", "stop", "minio.service", "mlflow.service"])
    server.run(
        [
            "sh",
            "-c",
            f"chmod -R go= {ENVIRONMENTS}/3* /opt/mlflow-onprem/server/*[0-9a-f]; chmod 0700 /opt/minio /opt/mlflow-onprem/object-store/sha*",
        ],
        timeout=600,  # 18,000 files
    )
    made = server.run(["stat", "-c", "%w", f"{ENVIRONMENTS}/current/environment.json"]).out
    code, found = steps.plan(server)
    changes = {each["resource"].partition(":")[0]: each["fields"] for each in found["changes"]}
    assert code == 3
    assert {"way", "environment", "modules", "binary"} <= set(changes)
    assert changes["way"]["barred"]["have"] == "/opt/minio"
    assert "the first is drwx------ of root" in changes["environment"]["permissions"]["have"]
    assert "create" not in {each["action"] for each in found["changes"]}

    under("077", server, "mlflow-onprem install")
    assert server.run(HIDDEN).out.split() == []
    assert server.run(["stat", "-c", "%w", f"{ENVIRONMENTS}/current/environment.json"]).out == made, "the environment was not rebuilt"
    steps.assert_as_wanted(server)

    server.run(["chown", "-R", "games:games", f"{ENVIRONMENTS}/current/bin"])
    _, found = steps.plan(server)
    assert [each["resource"].partition(":")[0] for each in found["changes"]] == ["environment"], "another owner counts too"
    under("027", server, "mlflow-onprem install")
    steps.assert_as_wanted(server)


@pytest.mark.long
@pytest.mark.parametrize("umask", ["027", "077"])
def test_bootstrap_and_install_under_such_an_umask(
    umask: str, host: HostFactory, base: Layer, config: str, store: Path, say: Callable[[str], None]
) -> None:
    server = host(base)
    product.put(server, product.checkout())
    under(umask, server, f"cd {product.INSIDE} && ./bootstrap")
    product.configure(server, config, store)
    under(umask, server, "mlflow-onprem install")
    assert server.run(HIDDEN).out.split() == []
    assert steps.status(server, user="nobody")[0] == 0, "status needs no root"
    steps.assert_as_wanted(server)
    server.run(["chmod", "-R", "go=", "/opt/mlflow-onprem/cli"])
    under(umask, server, f"cd {product.INSIDE} && ./bootstrap")
    assert server.run(HIDDEN).out.split() == [], "again, and what an earlier release left is opened"
