"""The program as a person and a script run it: a process, its exit code, its two streams."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlflow_onprem import __version__
from mlflow_onprem.core.engine import Plan
from mlflow_onprem.core.errors import OnPremError, ResourceFailed
from mlflow_onprem.core.render import envelope, error_json, error_text
from mlflow_onprem.core.resource import Change, FieldChange
from mlflow_onprem.install import render
from mlflow_onprem.stack.health import Verdict
from mlflow_onprem.status.render import status_text, verdict_json

ROOT = Path(__file__).parents[1]
NOBODY = pwd.getpwnam("nobody").pw_uid

#: The interpreter may lie where only root can read it: everything is imported first, then the process is nobody.
AS_NOBODY = """
import importlib, os, pkgutil, sys
import mlflow_onprem
for module in pkgutil.walk_packages(mlflow_onprem.__path__, "mlflow_onprem."):
    if not module.name.startswith(("mlflow_onprem_server", "mlflow_onprem.clients.sql_child", "mlflow_onprem.__main__")):
        importlib.import_module(module.name)
import psycopg, requests, minio, rich.console, encodings.idna
from mlflow_onprem.cli import main
nobody = int(sys.argv.pop(1))
os.setgroups([])
os.setegid(nobody)
os.seteuid(nobody)
main()
"""


def run(*words: str, as_nobody: bool = False, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Never a traceback, whatever it is asked."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_ONPREM_")}
    program = ["-c", AS_NOBODY, str(NOBODY)] if as_nobody and os.geteuid() == 0 else ["-m", "mlflow_onprem"]
    done = subprocess.run(
        [sys.executable, *program, *words],
        cwd=ROOT,
        env={**kept, "COLUMNS": "200", "NO_COLOR": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def the_object(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Exactly one object on standard output."""
    [line] = done.stdout.strip().splitlines()
    value: dict[str, Any] = json.loads(line)
    assert value["schema"] == 1
    return value


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"mlflow-onprem {__version__}\n")


@pytest.mark.parametrize(
    "words",
    [("no-such-verb",), ("plan", "--no-such-option"), ("status", "too", "many"), ("config", "no-such-verb"), ("client-env", "--shell", "csh")],
)
def test_wrong_usage_is_2_and_says_so_on_standard_error(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip()


def test_help_names_the_verbs() -> None:
    done = run("--help")
    assert done.returncode == 0
    for verb in ("plan", "install", "status", "client-env", "config", "sandbox"):
        assert verb in done.stdout


def test_help_keeps_what_stands_in_brackets() -> None:
    for words, says in (
        (("plan",), "[default: /etc/mlflow-onprem/config.toml]"),
        (("rotate-credentials",), "[rotation] every"),
        (("backup", "prune"), "rules of [backup] do not keep"),
        (("backup", "verify"), "[default: the newest]"),
    ):
        assert says in " ".join(run(*words, "--help").stdout.replace("│", " ").split()), words


def test_a_configuration_from_its_first_line_to_its_check(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config.toml"
    done = run("config", "init", "--config", str(path), "--json")
    assert (done.returncode, the_object(done)) == (0, {"schema": 1, "command": "config init", "path": str(path)})
    again = run("config", "init", "--config", str(path))
    assert again.returncode == 2
    assert "exists and is left alone" in again.stderr
    assert "what next: " in again.stderr
    below = run("config", "init", "--config", f"{path}/config.toml")
    assert (below.returncode, f"{path} exists and is left alone" in below.stderr) == (2, True)
    nothing = run("config", "init", "--config", "")
    assert (nothing.returncode, "--config names no file" in nothing.stderr) == (2, True)
    checked = run("config", "check", "--config", str(path), "--json")
    assert the_object(checked) == {"schema": 1, "command": "config check", "path": str(path), "exists": True, "valid": True}
    path.write_text("[mlflow]\nport = 5001\n")
    shown = the_object(run("config", "show", "--config", str(path), "--json", env={"MLFLOW_ONPREM_MINIO__PORT": "9100"}))["settings"]
    assert shown["mlflow.port"] == {"value": 5001, "source": str(path)}
    assert shown["minio.port"] == {"value": 9100, "source": "MLFLOW_ONPREM_MINIO__PORT"}
    assert shown["postgres.port"] == {"value": 5432, "source": "default"}
    text = run("config", "show", "--config", str(path)).stdout
    assert any(line.split() == ["mlflow.port", "5001", str(path)] for line in text.splitlines())


def test_a_wrong_configuration_is_2_and_one_object_with_json(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[mlflow]\nprot = 1\n")
    for words in (("config", "check"), ("plan",), ("status",)):
        done = run(*words, "--config", str(path))
        assert (done.returncode, done.stdout) == (2, ""), words
        assert "mlflow.prot is not a setting; did you mean mlflow.port?" in done.stderr
    done = run("config", "check", "--config", str(path), "--json")
    error = the_object(done)["error"]
    assert done.returncode == 2
    assert error["message"].startswith("mlflow.prot is not a setting")
    assert set(error) == {"message", "hint", "output"}


def test_a_missing_or_closed_configuration(tmp_path: Path) -> None:
    done = run("config", "check", "--config", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "there is no configuration at" in done.stderr
    locked = Path("/tmp") / f"mlflow-onprem-test-{os.getpid()}.toml"
    locked.touch(0o000)
    try:
        done = run("config", "check", "--config", str(locked), as_nobody=True)
    finally:
        locked.unlink()
    assert done.returncode == 2
    assert "may not be read by this user" in done.stderr


def test_a_version_of_mlflow_without_a_lock_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[mlflow]\nversion = "9.9.9"\n')
    done = run("config", "check", "--config", str(path))
    assert done.returncode == 2
    assert "it carries" in done.stderr


def test_what_changes_the_system_needs_root() -> None:
    done = run("install", "--json", as_nobody=True)
    assert done.returncode == 1
    assert the_object(done) == {
        "schema": 1,
        "command": "install",
        "error": {"message": "this changes the system and needs root", "hint": "run it with sudo", "output": ""},
    }
    assert "run it with sudo" in done.stderr


def test_a_plan_needs_no_root_and_tells_what_only_root_may_see() -> None:
    """This machine need not be one that an installation would work on: it may be refused, in one object."""
    done = run("plan", "--json", as_nobody=True)
    found = the_object(done)
    assert found["command"] == "plan"
    if done.returncode == 1:
        assert found["error"]["message"]
    else:
        assert done.returncode in (0, 3)
        assert (done.returncode == 3) == bool(found["changes"])
        assert {"bucket:mlflow", "database:mlflow"} <= set(found["hidden"])


# what results look like ------------------------------------------------------------------------------------------------

PLAN = Plan(
    (
        Change(
            "file:/etc/x",
            "update",
            {"content": FieldChange("1 lines", "2 lines", ("@@ -1 +1,2 @@", " a", "+b")), "mode": FieldChange("0600", "0644")},
        ),
        Change("user:minio", "create", {"home": FieldChange("absent", "/var/lib/minio")}),
        Change("bucket:mlflow", "unknown", {}, "the object store is not running here yet"),
        Change("file:/etc/y", "delete", {}),
    ),
    7,
    (Change("file:/secret", "hidden", {}, "only root may look at /secret"),),
)


def test_the_plan_as_json_is_pinned() -> None:
    assert json.loads(envelope("plan", render.plan_json(PLAN))) == {
        "schema": 1,
        "command": "plan",
        "changes": [
            {
                "resource": "file:/etc/x",
                "action": "update",
                "fields": {"content": {"have": "1 lines", "want": "2 lines"}, "mode": {"have": "0600", "want": "0644"}},
            },
            {"resource": "user:minio", "action": "create", "fields": {"home": {"have": "absent", "want": "/var/lib/minio"}}},
            {"resource": "bucket:mlflow", "action": "unknown", "fields": {}, "why": "the object store is not running here yet"},
            {"resource": "file:/etc/y", "action": "delete", "fields": {}},
        ],
        "unchanged": 7,
        "hidden": ["file:/secret"],
    }


def test_the_plan_as_text() -> None:
    assert render.plan_text(PLAN).splitlines() == [
        "~ file:/etc/x",
        "    content:",
        "      @@ -1 +1,2 @@",
        "       a",
        "      +b",
        "    mode: 0600 -> 0644",
        "+ user:minio",
        "    home: /var/lib/minio",
        "? bucket:mlflow: known after install (the object store is not running here yet)",
        "- file:/etc/y",
        "",
        "4 to change, 7 unchanged. No change was made; `sudo mlflow-onprem install` makes them.",
        "1 more can only be seen by root: sudo mlflow-onprem plan",
    ]
    assert render.plan_text(Plan((), 3)) == "No changes: 3 resources match the configuration."


def test_a_verdict_as_json_is_pinned() -> None:
    verdict = Verdict("minio", "minio.service", 9000, True, False, "answers HTTP 503", 1.5)
    expected = {
        "name": "minio",
        "unit": "minio.service",
        "port": 9000,
        "active": True,
        "healthy": False,
        "detail": "answers HTTP 503",
        "latency_ms": 1.5,
    }
    assert {name: value for name, value in verdict_json(verdict).items() if name in expected} == expected
    text = status_text([verdict])
    assert "not healthy: minio" in text
    assert "sudo mlflow-onprem install" in text


def test_a_failure_says_what_its_last_lines_what_else_and_what_next() -> None:
    failed = ResourceFailed("service:mlflow.service", OnPremError("it died", "fix it", "line one\nline two"), ["file:/x: full"])
    assert error_text(failed).splitlines() == [
        "error: service:mlflow.service: it died",
        "",
        "    line one",
        "    line two",
        "",
        "also failed: file:/x: full",
        "what next: fix it",
    ]
    assert error_json(failed) == {
        "error": {
            "message": "service:mlflow.service: it died",
            "hint": "fix it",
            "output": "line one\nline two",
            "resource": "service:mlflow.service",
        }
    }
