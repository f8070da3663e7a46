"""`upgrade` from older minors for real, and everything that may go wrong on the way: the old stack is back and not a run is lost."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, product

from mlflow_onprem.backup import catalog, manifest
from mlflow_onprem.backup.boot import Source
from mlflow_onprem.backup.encryption import Keys
from mlflow_onprem.backup.repository import Folder
from mlflow_onprem.core.host import Result
from mlflow_onprem.settings import config_file
from mlflow_onprem.stack.assembly import assemble
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.upgrade import rehearse
from tests.host import steps
from tests.host.conftest import HostFactory
from tests.host.old_stack import OWN_LOCKS, VERSIONS, old_layer, still_there

pytestmark = pytest.mark.host
PINNED = "3.17.2"
KILLER = Path(__file__).with_name("upgrade_killer.py")
KILLED = 128 + 9
MOST = 60  # runs until no place to die is left
REFUSE_NEW = "[Service]\nExecStartPre=/bin/sh -c 'case $$(readlink /opt/mlflow-onprem/environments/current) in 3.17*) echo no; exit 1;; esac'\n"

OldHost = Callable[[str], Sandbox]


@pytest.fixture
def old(host: HostFactory, bootstrapped: Layer, config: str, store: Path, say: Callable[[str], None]) -> OldHost:
    """A host that runs that older version, whose configuration now wants the pinned one."""

    def make(version: str) -> Sandbox:
        server = host(old_layer(version, bootstrapped, config, store, say))
        # The clone's address may be another one than what was installed for: that is not what is tested here.
        steps.install(server)
        server.write(product.CONFIG, config)
        return server

    return make


def upgrade(server: Sandbox, *options: str, ok: tuple[int, ...] = (0,)) -> Result:
    return server.run(["mlflow-onprem", "upgrade", "--json", *options], ok=ok, timeout=900)


def revision(server: Sandbox) -> str:
    return server.run(["psql", "-At", "-d", "mlflow", "-c", "SELECT version_num FROM alembic_version"], user="postgres").out.strip()


def databases(server: Sandbox) -> list[str]:
    statement = "SELECT datname FROM pg_database WHERE datname LIKE 'mlflow%' ORDER BY 1"
    return server.run(["psql", "-At", "-d", "postgres", "-c", statement], user="postgres").out.split()


def serves(server: Sandbox, version: str) -> None:
    code, found = steps.status(server)
    assert code == 0, found
    assert f"MLflow {version} serves" in json.dumps(found)
    still_there(server, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_from_an_older_minor(old: OldHost, version: str) -> None:
    server = old(version)
    at = revision(server)
    refused = steps.attempt(server)
    assert refused.code == 1
    assert "sudo mlflow-onprem upgrade" in refused.err
    checked: dict[str, Any] = json.loads(upgrade(server, "--check", ok=(3,)).out)
    assert (checked["version"], checked["wanted"], checked["migrations"], checked["possible"]) == (version, PINNED, VERSIONS[version], True)
    assert checked["needed"] > checked["database_bytes"] > 0
    assert revision(server) == at
    serves(server, version)

    done: dict[str, Any] = json.loads(upgrade(server).out)
    assert (done["version"], done["wanted"], done["migrations"]) == (version, PINNED, VERSIONS[version])
    assert 0 < done["downtime"] < done["seconds"]
    serves(server, PINNED)
    assert databases(server) == ["mlflow", "mlflow_auth"]
    assert steps.plan(server)[0] == 0
    listed = json.loads(server.run(["mlflow-onprem", "backup", "list", "--json"]).out)
    assert done["backup"] in json.dumps(listed)
    before = steps.running(server)
    assert json.loads(upgrade(server).out)["changes"] == []
    assert steps.running(server) == before


def test_a_migration_that_fails_half_way(old: OldHost) -> None:
    server = old("3.14.0")
    at = revision(server)
    # The last of nine migrations makes two tables; the second one stands in its way.
    server.run(["psql", "-d", "mlflow", "-c", "CREATE TABLE job_locks (x int)"], user="postgres")
    failed = json.loads(upgrade(server, ok=(1,)).out)["error"]
    assert 'relation "job_locks" already exists' in failed["output"]
    assert re.search(r"no run is lost; MLflow was away \d+ s", failed["message"])
    assert revision(server) == at
    serves(server, "3.14.0")
    assert databases(server) == ["mlflow", "mlflow_auth"]
    server.run(["psql", "-d", "mlflow", "-c", "DROP TABLE job_locks"], user="postgres")
    upgrade(server, "--no-backup")
    serves(server, PINNED)


def test_a_new_server_that_does_not_start_after_its_tables_were_migrated(old: OldHost) -> None:
    server = old("3.16.1")
    at = revision(server)
    server.write("/etc/systemd/system/mlflow.service.d/admin.conf", REFUSE_NEW)
    server.run(["systemctl", "daemon-reload"])
    failed = json.loads(upgrade(server, "--no-backup", ok=(1,)).out)["error"]
    assert "was rolled back" in failed["message"]
    assert revision(server) == at, "the tables were at the new revision and have to be put back"
    serves(server, "3.16.1")
    assert databases(server) == ["mlflow", "mlflow_auth"]
    assert not server.run(["ls", "/run/systemd/system/mlflow.service.d"], ok=(0, 2)).out


@pytest.mark.long
def test_killed_at_every_step(old: OldHost) -> None:
    server = old("3.14.0")
    server.push(KILLER, "/root/killer.py")
    places = 0
    for number in range(MOST):
        # Now and then install comes across the cut-off upgrade: it undoes it, and says that an upgrade is wanted.
        verb = ["install"] if number % 4 == 3 else []
        argv = ["sh", "-c", '"$@"; exit $?', "sh", "/opt/mlflow-onprem/cli/bin/python", "/root/killer.py", "/root/places", *verb]
        result = server.run(argv, ok=steps.ANY, timeout=900)
        if result.code == 0:
            break
        assert result.code == KILLED or (verb and "is an upgrade" in result.err), result.err[-3000:]
        found = len(server.read("/root/places").splitlines())
        assert found > places or verb, "it died where it had died before"
        places = found
    else:
        pytest.fail("it never came to its end")
    said = server.read("/root/places").decode()
    for step in ("back up", "build beside", "stop MLflow", "copy databases", "change", "try out", "open", "tidy up"):
        assert f"before {step}\n" in said
        assert f"after {step}\n" in said
    for act in ("copy", "exchange", "forget", "end_private"):
        assert f"did {act}\n" in said
    serves(server, PINNED)
    assert databases(server) == ["mlflow", "mlflow_auth"]
    assert steps.plan(server)[0] == 0
    assert server.run(["test", "-e", "/var/lib/mlflow-onprem/upgrade.json"], ok=(0, 1)).code == 1


def test_tables_of_a_later_mlflow_are_refused(host: HostFactory) -> None:
    server = host()
    server.run(["psql", "-d", "mlflow", "-c", "UPDATE alembic_version SET version_num = 'ffffffffffff'"], user="postgres")
    before = steps.running(server)
    for verb in ("install", "upgrade"):
        result = server.run(["mlflow-onprem", verb], ok=(1,), timeout=120)
        assert "a later one made them" in result.err
    assert steps.running(server) == before


def test_a_cut_off_upgrade_keeps_gc_and_backup_away(host: HostFactory) -> None:
    server = host()
    server.write("/var/lib/mlflow-onprem/upgrade.json", "{}", mode=0o600)
    for verb in (["gc"], ["backup", "create"]):
        assert "an upgrade was interrupted" in server.run(["mlflow-onprem", *verb], ok=(1,)).err
    assert "is damaged" in server.run(["mlflow-onprem", "upgrade"], ok=(1,)).err


@pytest.mark.long
def test_a_rehearsal_says_go_or_no_go(old: OldHost, config: str, store: Path, tmp_path: Path) -> None:
    server = old("3.16.1")
    server.run(["mlflow-onprem", "backup", "create"], timeout=300)
    at = revision(server)
    place = tmp_path / "backups"
    server.pull("/var/backups/mlflow-onprem", place)
    (tmp_path / "config.toml").write_text(config)
    here = LocalHost()
    assembly = assemble(here, config_file.load(str(tmp_path / "config.toml")).config)
    repository = Folder(here, str(place))
    newest = manifest.read(repository, catalog.newest(repository))
    # The backup is of what ran there, not of what its configuration wanted.
    assert newest.mlflow == "3.16.1"
    locks = {"3.16.1": (OWN_LOCKS / "mlflow-3.16.1.txt").read_text()}
    try:
        found = rehearse.rehearse(here, assembly, repository, newest, Keys(), Source(str(place), {}), locks)
    finally:
        assembly.close()
        shutil.rmtree(place)
    assert found.go, (found.why, found.output)
    assert (found.migrations, found.runs) == (VERSIONS["3.16.1"], 5)
    assert found.artifacts >= 5
    assert found.downtime > 0
    assert revision(server) == at
