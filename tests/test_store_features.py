"""What is said of a store that lacks something, and that a store is tried once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlflow_onprem.clients.store_contract import Lack, features
from mlflow_onprem.clients.store_contract.trial import Refusal, attempt
from mlflow_onprem.clients.store_errors import StoreForeign, StoreUnreachable
from mlflow_onprem.core import engine
from mlflow_onprem.core.errors import CommandFailed, OnPremError, ResourceFailed
from mlflow_onprem.doctor import host_checks
from mlflow_onprem.resources.store_features import NOTE
from mlflow_onprem.system.systemd import Systemd
from tests.fake_machine import EXTERNAL, Machine, config, external_files
from tests.fakes import FakeHost

FATAL = Lack("listing", "artifacts are shown", "it answers 501", fatal=True)
MILD = Lack("wrong checksums are refused", "damage is noticed", "it answers 200", fatal=False)


def test_a_store_is_tried_once_for_each_program(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert "store-features" in machine.changed(machine.config())
    assert machine.changed(machine.config()) == set()
    assert [(bucket, presigned) for _, bucket, presigned in machine.data.trials] == [(None, True)]
    machine.program.write_bytes(b"\x7fELF another server")
    assert "store-features" in machine.changed(machine.config())
    assert len(machine.data.trials) == 2


def test_an_external_store_is_tried_in_its_bucket_and_again_when_presigned_urls_are_wanted(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    external_files(machine.host)
    machine.converge(config({"minio": EXTERNAL["minio"]}))
    machine.converge(config({"minio": EXTERNAL["minio"]}))
    machine.converge(config({"minio": EXTERNAL["minio"], "mlflow": {"artifacts": "presigned"}}))
    assert [(bucket, presigned) for _, bucket, presigned in machine.data.trials] == [("mlflow", False), ("mlflow", True)]


def test_a_lack_is_named_before_anything_is_built_on_the_store(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.data.lacking = (MILD, FATAL)
    with pytest.raises(ResourceFailed) as failed:
        machine.converge(machine.config())
    assert "cannot do 1 thing that this stack needs" in failed.value.message
    assert "- listing (artifacts are shown): it answers 501" in failed.value.message
    assert "checksums" not in failed.value.message, "what is not needed does not stop anybody"
    assert 'distribution = "silo"' in failed.value.hint
    assert (machine.data.buckets, machine.data.keys) == (set(), {}), "nothing was built on it"
    first = machine.data.trials[0][0]
    machine.data.lacking = ()
    machine.converge(machine.config())
    assert machine.data.trials[1][0] == first, "what the first trial may have left is found under its name"
    assert engine.plan(machine.host, machine.stack(machine.config())).changes == ()


def test_doctor_names_what_is_lacking_without_stopping_anybody(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert host_checks.store_features(machine.host).level == "warning"
    machine.data.lacking = (MILD,)
    machine.converge(machine.config())
    finding = host_checks.store_features(machine.host)
    assert (finding.level, "it answers 200" in finding.what, "damage is noticed" in finding.why) == ("warning", True, True)
    machine.host.put(NOTE, json.dumps({"tried": "x", "lacks": []}))
    assert host_checks.store_features(machine.host).level == "ok"


def test_what_a_failed_attempt_says() -> None:
    def raises(failed: Exception) -> str | None:
        def check() -> None:
            raise failed

        return attempt(check)

    assert raises(Refusal("it answers 200")) == "it answers 200"
    assert "no administration as MinIO has it" in (raises(StoreForeign("something else answers")) or "")
    assert "refused" in (raises(OnPremError("refused")) or "")
    assert attempt(lambda: None) is None
    with pytest.raises(StoreUnreachable):
        raises(StoreUnreachable("gone"))


def test_presigned_urls_are_tried_where_they_are_used() -> None:
    external = {each.name for each in features(administered=False, presigned=False)}
    assert not [name for name in external if "presigned" in name or "access keys" in name]
    assert {each.name for each in features(administered=False, presigned=True)} - external == {"presigned downloads", "presigned uploads in parts"}
    assert len({each.name for each in features(administered=True, presigned=False)}) == len(features(administered=True, presigned=True))


@pytest.mark.parametrize(("result", "said"), [("timeout", True), ("protocol", True), ("exit-code", False)])
def test_a_program_that_never_says_that_it_is_ready_is_named(result: str, *, said: bool) -> None:
    from mlflow_onprem.core.host import Result

    host = FakeHost()
    host.programs["systemctl"] = lambda call: (
        Result(0, f"Id=minio.service\nResult={result}\n", "") if call.argv[1] == "show" else Result(1, "", "failed")
    )
    host.programs["journalctl"] = lambda _call: Result(0, "", "")
    with pytest.raises(CommandFailed) as failed:
        Systemd(host, ("minio.service",)).act("restart", "minio.service")
    assert ("never said that it is ready" in failed.value.message) is said
