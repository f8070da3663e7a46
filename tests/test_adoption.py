"""What belongs to a hand-built stack and what does not, and how open lines are closed."""

from __future__ import annotations

import json

import pytest

from mlflow_onprem.core.host import Result
from mlflow_onprem.resources.adoption import NOTE, Adopted, ClosedLines, Copy, CopyState, close_lines, opens_everything
from mlflow_onprem.system.processes import family
from tests.fakes import FakeHost

HBA = """\
# comment
local   all             postgres                                peer
host    all             all             127.0.0.1/32            scram-sha-256
host    all             all             0.0.0.0/0               md5
host    all             all             ::/0                    md5
host    app             app             0.0.0.0/0               scram-sha-256
"""


@pytest.mark.parametrize(
    ("line", "opens"),
    [
        ("host    all             all             0.0.0.0/0               md5", True),
        ("host all all all trust", True),
        ("hostssl all all ::/0 scram-sha-256", True),
        ("host all all 0.0.0.0 0.0.0.0 md5", True),
        ("# host all all 0.0.0.0/0 md5", False),
        ("host all all 127.0.0.1/32 md5", False),
        ("host app all 0.0.0.0/0 md5", False),
        ("host all app 0.0.0.0/0 md5", False),
        ("host all all 0.0.0.0/0 reject", False),
        ("local all all peer", False),
    ],
)
def test_a_line_that_lets_everybody_in_is_known(line: str, opens: bool) -> None:
    assert opens_everything(line) is opens


def test_open_lines_become_comments_and_everything_else_stays() -> None:
    text = close_lines(HBA, ())
    assert not [line for line in text.splitlines() if opens_everything(line)]
    assert [line for line in text.splitlines() if "closed by" not in line] == [line for line in HBA.splitlines() if not opens_everything(line)]
    assert text.count("closed by mlflow-onprem") == 2


def test_what_an_open_line_gave_to_other_databases_is_kept() -> None:
    text = close_lines(HBA, ("shop", "wiki"))
    assert "host    shop,wiki             all             0.0.0.0/0               md5" in text
    assert close_lines(text, ("shop", "wiki")) == text


def test_closing_keeps_the_files_mode_and_owner() -> None:
    host = FakeHost()
    path = "/etc/postgresql/15/main/pg_hba.conf"
    host.put(path, HBA, mode=0o640, owner="postgres", group="postgres")
    resource = ClosedLines(path, ())
    have = resource.observe(host)
    assert have is not None
    assert len(have.open_to_everybody) == 2
    resource.apply(host, have)
    assert resource.observe(host) == resource.want
    found = host.stat(path)
    assert found is not None
    assert (found.mode, found.owner) == (0o640, "postgres")


def test_a_family_is_the_program_above_and_everything_below() -> None:
    parents = {10: 1, 20: 10, 21: 20, 22: 20, 30: 22, 40: 1}
    assert family(parents, {21}, lambda pid: pid != 10) == {20, 21, 22, 30}
    assert family(parents, {21}, lambda _pid: False) == {21}


def test_the_copy_is_complete_before_it_is_noted() -> None:
    host = FakeHost()
    host.mkdir("/var/lib/mlflow-onprem", mode=0o755, owner="root", group="root")
    host.put("/etc/systemd/system/minio.service", "[Service]\n")
    host.programs["pg_dump"] = lambda _call: Result(0, "", "")
    folder = "/var/backups/mlflow-onprem/adoption-1"
    copy = Copy(folder, ("mlflow",), 5432, ("/etc/systemd/system/minio.service", "/etc/default/minio"), ("warned",), CopyState("all"))
    assert copy.observe(host) is None
    copy.apply(host, None)
    assert copy.observe(host) == copy.want
    assert host.read(f"{folder}/etc_systemd_system_minio.service") == b"[Service]\n"
    assert json.loads(host.read(NOTE) or b"") == {"folder": folder, "warnings": ["warned"], "done": False}
    assert host.log[-1] == f"write {NOTE}", "noted last: a run that dies before it copies anew"
    adopted = Adopted()
    adopted.apply(host, adopted.observe(host))
    assert adopted.observe(host) == adopted.want
