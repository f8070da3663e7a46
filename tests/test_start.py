"""The command's start: what it says where the Python that it was made with is gone. Run by the shell, with a folder in the place of /opt."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

START = Path(__file__).parents[1] / "mlflow_onprem" / "start.sh"


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The wrapper and a home for it, whose "Python" prints what it was called with."""
    home = tmp_path / "cli"
    for folder in ("bin", "libexec", "checkout"):
        (home / folder).mkdir(parents=True)
    for name, text in (("libexec/mlflow-onprem", ""), ("checkout/bootstrap", ""), ("json.py", ""), ("python3", '#!/bin/sh\nprintf "%s\\n" "$@"\n')):
        (home / name).write_text(text)
        (home / name).chmod(0o755)
    (home / "bin/python").symlink_to(home / "python3")
    (home / "library").write_text(f"{home}/json.py\n")
    start = tmp_path / "mlflow-onprem"
    start.write_text(START.read_text().replace("/opt/mlflow-onprem/cli", str(home)))
    start.chmod(0o755)
    return start


def run(command: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(command), *words], capture_output=True, text=True, check=False)


def test_arguments_reach_the_program_unchanged(command: Path) -> None:
    home = command.parent / "cli"
    assert run(command, "logs", "two words", "*", "").stdout.split("\n") == ["-I", f"{home}/libexec/mlflow-onprem", "logs", "two words", "*", "", ""]


@pytest.mark.parametrize("gone", ["python3", "json.py", "library"])
def test_a_python_that_is_gone_is_said_with_the_way_on(command: Path, gone: str) -> None:
    (command.parent / "cli" / gone).unlink()
    said = run(command, "status")
    assert said.returncode == 1
    assert ("is missing" if gone == "library" else "the Python that it was made with") in said.stderr
    assert f"what next: sudo {command.parent}/cli/checkout/bootstrap" in said.stderr
    assert "not found" not in said.stderr


def test_json_stays_one_object(command: Path) -> None:
    (command.parent / "cli/python3").unlink()
    said = run(command, "user", "list", "--json")
    answer = json.loads(said.stdout)
    assert (answer["schema"], answer["command"]) == (1, "user")
    assert "is gone" in answer["error"]["message"]


def test_without_its_folder_the_checkout_is_named(command: Path) -> None:
    (command.parent / "cli").rename(command.parent / "elsewhere")
    said = run(command)
    assert "is gone" in said.stderr
    assert "sudo ./bootstrap in a checkout" in said.stderr
