"""Secrets that can be told from every other text are looked for everywhere they must not be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from mlflow_onprem.cli import progress
from mlflow_onprem.core import engine
from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.render import error_json, error_text
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.install import render
from mlflow_onprem.settings import credentials as credentials_module
from tests.fake_machine import CREDENTIALS, EXTERNAL, Machine, config, external_files, with_secrets

MARK = "CANARY"


def outside(machine: Machine) -> str:
    """Everything a run shows to others: argument lists, environments, statements for PostgreSQL, messages."""
    calls = [f"{call.argv} {dict(call.env)}" for call in machine.host.calls]
    return "\n".join([*calls, *machine.host.said, repr(machine.sql.sent), repr(machine.host.transfers)])


@pytest.mark.parametrize("values", [{}, EXTERNAL, {"mlflow": {"auth": {"enabled": False}}}], ids=["default", "external", "no accounts"])
def test_no_secret_leaves_its_files(values: dict[str, dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(tmp_path)
    external_files(machine.host)
    machine.sql.databases["tracking"] = ["tracker", True]
    wanted = config(values, program=machine.program)
    planned = engine.plan(machine.host, machine.stack(wanted, CREDENTIALS))
    shown = progress.Plain(verbose=True)
    report = engine.converge(machine.host, machine.stack(wanted, CREDENTIALS), shown.event)
    printed = capsys.readouterr()
    texts = {
        "plan": render.plan_text(planned),
        "plan --json": json.dumps(render.plan_json(planned)),
        "report": json.dumps(render.report_json(report, ())),
        "progress": printed.err + printed.out,
        "the values themselves": repr(planned) + repr(report) + repr([each.want for each in machine.stack(wanted, CREDENTIALS)]),
        "the outside": outside(machine),
    }
    assert texts["progress"]
    assert {name for name, text in texts.items() if MARK in text} == set()
    for path, node in machine.host.nodes.items():
        if MARK.encode() in node.content:
            assert node.mode in (0o600, 0o640), path
            assert (node.mode, node.owner) != (0o640, "root") or node.group in ("minio", "mlflow"), path
    held = b"".join(node.content for node in machine.host.nodes.values())
    assert MARK.encode() in held


def test_no_secret_stands_in_a_new_plan_after_a_rotation(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.converge(machine.config(), CREDENTIALS)
    rotated = with_secrets(**{each.name: f"{MARK}-second-{each.name}" for each in dataclasses.fields(CREDENTIALS) if each.type == "Secret"})
    planned = engine.plan(machine.host, machine.stack(machine.config(), rotated))
    assert f"file:{credentials_module.PATH}" in {each.resource for each in planned.changes}
    text = render.plan_text(planned) + json.dumps(render.plan_json(planned)) + repr(planned)
    assert "(secret changed)" in text
    assert MARK not in text


def failure_of(machine: Machine) -> OnPremError | None:
    """How an installation fails, None where it does not."""
    try:
        machine.converge(machine.config(), CREDENTIALS)
    except OnPremError as failed:
        return failed
    return None


def test_no_failure_tells_a_secret(tmp_path: Path) -> None:
    """Every program of an installation fails once."""
    straight = Machine(tmp_path / "straight")
    straight.converge(straight.config(), CREDENTIALS)
    seen = set()
    for number in range(1, straight.host.acts + 1):
        machine = Machine(tmp_path / str(number))
        machine.host.fail_at = number
        if (failed := failure_of(machine)) is not None:
            text = error_text(failed) + json.dumps(error_json(failed)) + repr(failed) + repr(failed.__cause__)
            assert MARK not in text
            assert MARK not in outside(machine)
            assert "what next: " in text
            seen.add(failed.message.partition(":")[0])
    assert {"user", "environment", "service", "packages", "schema"} <= seen


def test_a_secret_does_not_print_and_does_not_travel() -> None:
    import pickle

    secret = Secret("CANARY")
    assert f"{secret} {secret!r} {[secret]} {dataclasses.asdict(CREDENTIALS)['minio_root_user']}" == "Secret(***) Secret(***) [Secret(***)] root-test"
    assert secret == Secret("CANARY") != Secret("canary")
    assert secret != "CANARY"
    assert hash(secret) == hash(Secret("CANARY"))
    assert not Secret("")
    assert "CANARY" not in repr(dataclasses.asdict(CREDENTIALS))
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps({"secret": secret})
