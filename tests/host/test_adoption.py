"""A host built by hand after the article is taken over with every run, model and artifact, and its doors are closed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, layers, product

from tests.host import article, rest, steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host


@pytest.fixture
def by_hand(host: HostFactory, base: Layer, store: Path) -> Sandbox:
    """The article's stack, running as it leaves it."""
    key = f"article-{hashlib.sha256(json.dumps([base.key, article.OLD_MLFLOW, article.MINIO_UNIT]).encode()).hexdigest()[:12]}"
    with layers.locked("build"):
        layer = product.kept_layer(key, base, lambda server: article.build(server, store), lambda _: None)
    server = host(layer)
    article.start(server)
    return server


def test_everything_is_there_afterwards_and_the_doors_are_closed(by_hand: Sandbox, config: str, store: Path) -> None:
    logged = article.work(by_hand)
    steps.psql(by_hand, "CREATE ROLE other LOGIN PASSWORD 'other'")
    product.bootstrap(by_hand, product.checkout(), lambda _: None)
    product.configure(by_hand, config, store)

    plan = by_hand.run(["mlflow-onprem", "plan"], ok=(3,)).out
    for words in (
        "built by hand", "/var/backups/mlflow-onprem/adoption-", "minioadmin:minioadmin",
        "started-by-hand:mlflow on port 5000", "started-by-hand:minio on port 9000",
        "owner of everything below: root -> minio", "-User=root", "open to everybody: host    all", "database:mlflow",
    ):  # fmt: skip
        assert words in plan, words

    installed = by_hand.run(["mlflow-onprem", "install"], timeout=900).out
    assert "minioadmin:minioadmin" in installed
    assert "every account in from every address" in installed
    assert steps.plan(by_hand)[0] == 0

    folder = by_hand.run(["sh", "-c", "echo /var/backups/mlflow-onprem/adoption-*"]).out.strip()
    assert by_hand.run(["pg_restore", "--list", f"{folder}/mlflow.dump"]).out.count("TABLE DATA") > 20
    assert "minioadmin" in by_hand.read(f"{folder}/etc_systemd_system_minio.service").decode()

    door = rest.door(by_hand)
    for each in logged:
        run = door.call("GET", "runs/get", {"run_id": each["run_id"]})["run"]
        assert [metric["value"] for metric in run["data"]["metrics"]] == [each["loss"]]
        assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:/")
        path = run["info"]["artifact_uri"].partition(":")[2].lstrip("/")
        content = door.send("GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}/inputs/data.bin").content
        assert hashlib.sha256(content).hexdigest() == each["sha256"]
        model = door.call("GET", f"logged-models/{each['model_id']}")["model"]["info"]
        assert model["artifact_uri"].startswith("mlflow-artifacts:/")
        file = f"{model['artifact_uri'].partition(':')[2].lstrip('/')}/MLmodel"
        assert b"python_function" in door.send("GET", f"/api/2.0/mlflow-artifacts/artifacts/{file}").content
    versions = door.call("GET", "model-versions/search", {"max_results": 100})["model_versions"]
    assert sorted(each["run_id"] for each in versions) == sorted(each["run_id"] for each in logged)
    new = rest.log(by_hand)
    assert rest.is_there(by_hand, new)

    code, answer = steps.status(by_hand)
    assert (code, answer["healthy"]) == (0, True)
    doctor = json.loads(by_hand.run(["mlflow-onprem", "doctor", "--json"], ok=(0, 4), timeout=180).out)
    assert [each for each in doctor["findings"] if each["level"] == "error"] == []
    assert set(by_hand.run(["find", "/opt/minio/data", "-printf", "%u\\n"]).out.split()) == {"minio"}


@pytest.mark.long  # not seen green since the modules moved
def test_a_database_beside_it_keeps_working(by_hand: Sandbox, config: str, store: Path) -> None:
    steps.psql(by_hand, "CREATE ROLE other LOGIN PASSWORD 'other'")
    steps.psql(by_hand, "CREATE DATABASE other OWNER other")
    product.bootstrap(by_hand, product.checkout(), lambda _: None)
    product.configure(by_hand, config, store)
    by_hand.run(["mlflow-onprem", "install"], timeout=900)

    def connects(database: str, role: str, password: str) -> bool:
        argv = ["psql", "-h", by_hand.address, "-U", role, "-d", database, "-qtAc", "SELECT 1"]
        return by_hand.run(argv, env={"PGPASSWORD": password}, ok=steps.ANY).code == 0

    assert connects("other", "other", "other"), "what another application used works as before"
    assert not connects("postgres", "other", "other")
    assert not connects("mlflow", "other", "other")
    assert not connects("mlflow", "mlflow_user", article.PASSWORD)
    assert steps.plan(by_hand)[0] == 0


@pytest.mark.long
def test_a_stranger_on_our_port_is_still_refused(by_hand: Sandbox, config: str, store: Path) -> None:
    by_hand.run(["pkill", "-f", "/opt/mlflow/bin/"], ok=(0, 1))
    steps.until(lambda: ":5000 " not in by_hand.run(["ss", "-Hltn"]).out, "the port is free")
    steps.python_in(by_hand, "stranger", ["-m", "http.server", "5000"], port=5000)
    product.bootstrap(by_hand, product.checkout(), lambda _: None)
    product.configure(by_hand, config, store)
    refused = by_hand.run(["mlflow-onprem", "install"], ok=(1,), timeout=300)
    assert "port 5000 is held by another program" in refused.err
    assert by_hand.run(["systemctl", "is-active", "stranger", "minio"]).out.split() == ["active", "active"]
    assert by_hand.run(["sh", "-c", "ls /var/backups/mlflow-onprem 2>/dev/null"], ok=steps.ANY).out == "", "nothing was touched"
