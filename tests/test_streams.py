"""Every verb with standard input, output or error closed, full, or without a reader: plain words, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

COMMAND = f"{sys.executable} -m mlflow_onprem"
VERBS = ("status", "uninstall", "user passwd anna", "bundle create --to /x/y")


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("verb", VERBS)
def test_closed_input_is_no_traceback(verb: str) -> None:
    said = shell(f"{COMMAND} {verb} <&-")
    assert "Traceback" not in said.stderr, said.stderr
    assert "NoneType" not in said.stderr, said.stderr


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-", "0>/dev/null"])
def test_closed_output_is_no_traceback_and_changes_no_exit_code(closed: str) -> None:
    said = shell(f"{COMMAND} config check {closed}")
    assert said.returncode == 0
    assert "Traceback" not in said.stdout + said.stderr


def test_a_result_that_cannot_be_written_is_a_failure_in_words() -> None:
    said = shell(f"{COMMAND} config show >/dev/full")
    assert said.returncode == 1
    assert "the result could not be written to standard output: No space left on device" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_reader_that_has_seen_enough_hears_nothing_more() -> None:
    said = shell(f"{COMMAND} config show | head -n 1")
    assert said.stdout.startswith("minio.mode")
    assert said.stderr == ""


def test_what_is_no_text_is_no_password() -> None:
    """In any locale: where Python is lenient about bytes, too."""
    script = "from mlflow_onprem.cli import streams; from mlflow_onprem.core.errors import ConfigError\n"
    script += "try: streams.read_line()\nexcept ConfigError as wrong: print(wrong.message)"
    for locale in ("C", "C.UTF-8"):
        said = subprocess.run([sys.executable, "-c", script], input=b"\xff\xfe\n", capture_output=True, check=True, env={"LC_ALL": locale})
        assert said.stdout.decode().strip() == "what came on standard input is no text in UTF-8"


def test_json_is_one_object_without_an_input() -> None:
    said = shell(f"{COMMAND} uninstall --json <&-")
    assert json.loads(said.stdout)["error"]["message"]
