"""The manual page and the completions say what the commands say."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer

from mlflow_onprem.cli import app, manual


@pytest.fixture(scope="module")
def root() -> Any:
    return typer.main.get_command(app)


def _plain(page: str) -> str:
    """The page without roff."""
    return page.replace("\\-", "-").replace("\\&", "").replace("\\(dq", '"').replace("\\e", "\\")


def test_every_verb_and_every_option_is_in_the_page(root: Any) -> None:
    page = manual.manual(root)
    sections = {part.partition("\n")[0].strip('" '): part for part in _plain(page).split("\n.SS ")[1:]}
    every = dict(manual.leaves(root))
    assert {"plan", "install", "user add", "user grant", "config show", "logs", "client-env"} <= set(every)
    assert len(sections) == len(every)
    for words, command in every.items():
        section = next(text for title, text in sections.items() if title.startswith(f"mlflow-onprem {words} ") or title == f"mlflow-onprem {words}")
        for parameter in command.params:
            if not getattr(parameter, "hidden", False):
                shown = parameter.get_help_record(command.make_context(words, [], resilient_parsing=True))[0]
                names = parameter.opts if parameter.param_type_name == "option" else [shown]
                assert all(name in section for name in names), (words, parameter.name)
                assert not parameter.help or parameter.help.split("\n")[0][:40] in section, (words, parameter.name)


def test_every_command_and_option_explains_itself(root: Any) -> None:
    for words, command in manual.leaves(root):
        assert command.help, words
        for parameter in command.params:
            assert parameter.help, (words, parameter.name)


def test_text_that_looks_like_roff_stays_text() -> None:
    assert manual._text(".TH is 'no' request\n'nor this \\n -x") == "\\&.TH is 'no' request\n\\&'nor this \\en \\-x"
    assert manual._text('say "x"') == "say \\(dqx\\(dq"


def test_the_page_is_right_for_man(root: Any) -> None:
    """groff, where this machine has it, has nothing to say against it; without it, no line begins like an unknown request."""
    page = manual.manual(root)
    assert set(re.findall(r"(?m)^\.(\w+)", page)) <= {"TH", "SH", "SS", "TP", "B", "I", "PP"}
    if shutil.which("groff"):
        said = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=page, capture_output=True, text=True, check=True)
        assert said.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_ask_the_program(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("_MLFLOW_ONPREM_COMPLETE", raising=False)
    script = manual.completion(app, shell)
    assert f"_MLFLOW_ONPREM_COMPLETE=complete_{shell}" in script
    assert "mlflow-onprem" in script
    if shell == "zsh":
        assert script.startswith("#compdef mlflow-onprem\n")
        assert script.rstrip().endswith("else compdef _mlflow_onprem_completion mlflow-onprem; fi")


def test_everything_lands_where_it_is_looked_for(tmp_path: Path) -> None:
    written = manual.write(tmp_path)
    assert manual.write(tmp_path) == written
    assert sorted(str(path.relative_to(tmp_path)) for path in written) == [
        "etc/fish/completions/mlflow-onprem.fish",
        "usr/local/share/bash-completion/completions/mlflow-onprem",
        "usr/local/share/man/man1/mlflow-onprem.1",
        "usr/local/share/zsh/site-functions/_mlflow-onprem",
    ]
    assert all(path.stat().st_mode & 0o777 == 0o644 and path.read_text().strip() for path in written)
