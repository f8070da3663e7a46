"""What is the same for every verb: the list of them, Ctrl-C, a no, what a session closes; in this process, as `main` runs them."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import typer

import mlflow_onprem
from mlflow_onprem import cli
from mlflow_onprem.cli import manual, output, prompt, session, verbs
from mlflow_onprem.core.errors import EXIT_CODES, ConfigError, Declined, ExitCode, Interrupted, OnPremError, RolledBack
from mlflow_onprem.settings.config_file import Loaded
from mlflow_onprem.stack import assembly
from mlflow_onprem.stack.assembly import Assembly
from mlflow_onprem.uninstall import command as uninstall
from mlflow_onprem.uninstall import render as render_uninstall
from mlflow_onprem.uninstall.command import Removal

ROOT = Path(mlflow_onprem.__file__).parents[1]
#: What a verb cannot do without.
NEEDS = {"restore": ["ID"], "user": ["NAME"], "db-role": ["NAME"], "bundle create": ["--to", "FILE"], "user grant": ["NAME", "1", "READ"]}


def words_of(verb: verbs.Verb) -> list[str]:
    takes = NEEDS.get(verb.words, NEEDS.get(verb.words.split()[0], []) if not verb.words.endswith(" list") else [])
    return [*verb.words.split(), *takes]


def ends(monkeypatch: pytest.MonkeyPatch, argv: list[str], verb: verbs.Verb) -> int:
    """The exit code of `main`, where the program has this verb alone."""
    app = typer.Typer()
    app.callback()(lambda: None)
    monkeypatch.setattr(verbs, "VERBS", (verb,))
    verbs.register(app)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["mlflow-onprem", *argv])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return cast("int", ended.value.code)


def raising(verb: verbs.Verb, raised: BaseException, monkeypatch: pytest.MonkeyPatch) -> verbs.Verb:
    """The same verb, with its options, but for what it does."""

    def run(*_args: object, **_options: object) -> int:
        raise raised

    run.__signature__ = inspect.signature(verb.run, eval_str=True)  # type: ignore[attr-defined]  # its options
    return verbs.Verb(verb.words, run, verb.left, verb.go_on)


@pytest.mark.parametrize("verb", verbs.VERBS, ids=lambda verb: verb.words)
def test_ctrl_c_says_what_is_half_done_and_how_to_go_on(
    verb: verbs.Verb, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    json_too = verb.words != "sandbox shell"
    code = ends(monkeypatch, words_of(verb) + (["--json"] if json_too else []), raising(verb, KeyboardInterrupt(), monkeypatch))
    out, err = capsys.readouterr()
    assert code == 130, err
    assert f"stopped by Ctrl-C; {verb.left}" in err
    assert f"what next: {verb.go_on}" in err
    assert "Traceback" not in err
    if json_too:
        [line] = out.strip().splitlines()
        answer = json.loads(line)
        assert (answer["schema"], answer["command"]) == (1, verb.words.split()[0])
        assert answer["error"] == {"message": f"stopped by Ctrl-C; {verb.left}", "hint": verb.go_on, "output": ""}


def test_a_verb_that_changes_something_does_not_say_that_nothing_was_changed() -> None:
    looking = {"plan", "status", "client-env", "logs", "config init", "config check", "config show", "sandbox shell", "sandbox status"}
    assert {verb.words for verb in verbs.VERBS if verb.left == verbs.UNCHANGED} == looking | {"backup list", "user list", "db-role list"}


@pytest.mark.parametrize(
    ("raised", "says", "next_"),
    [
        (Interrupted("stopped before the end"), "stopped before the end; LEFT", "GO ON"),
        (Interrupted("stopped by Ctrl-C at: two; nothing was changed", "of its own"), "at: two; nothing was changed", "of its own"),
        (RolledBack(Interrupted("stopped by Ctrl-C")), "stopped by Ctrl-C; this host is as it was before", None),
    ],
)
def test_who_was_stopped_and_knows_more_is_not_talked_over(raised: OnPremError, says: str, next_: str | None) -> None:
    def run() -> int:
        raise raised

    with pytest.raises(OnPremError) as stopped:
        verbs.framed(verbs.Verb("x", run, "LEFT", "GO ON"))()
    assert stopped.value.message.endswith(says)
    assert stopped.value.hint == (next_ or "")
    assert stopped.value.exit_code == ExitCode.INTERRUPTED


def test_a_no_is_no_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    verb = next(each for each in verbs.VERBS if each.words == "uninstall")
    assert ends(monkeypatch, ["uninstall", "--json"], raising(verb, Declined("nothing was removed"), monkeypatch)) == 5
    out, err = capsys.readouterr()
    assert err == "you answered no: nothing was removed\n"
    assert json.loads(out)["error"]["message"] == "nothing was removed"


@pytest.mark.parametrize(
    ("answer", "purge", "yes"), [("y", False, True), ("YES", False, True), ("", False, False), ("y", True, False), ("box", True, True)]
)
def test_what_counts_as_a_yes(answer: str, purge: bool, yes: bool) -> None:
    removal = cast("Removal", SimpleNamespace(hostname="box"))
    assert uninstall.agreed(answer, removal, purge=purge) is yes
    assert ("box" in render_uninstall.question(removal, purge=purge)) is purge


def test_a_question_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of input is no empty answer: an account's things would go to the administrators by it."""
    terminal = SimpleNamespace(isatty=lambda: True, readline=lambda: "")
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(ConfigError, match="was not answered; nothing was changed"):
        prompt.ask("Who? ", "nobody there", "say --leave")
    terminal.readline = lambda: "\n"
    assert prompt.ask("Who? ", "nobody there", "say --leave") == ""
    terminal.isatty = lambda: False
    with pytest.raises(ConfigError, match="nobody there"):
        prompt.ask("Who? ", "nobody there", "say --leave")

    def interrupted() -> str:
        raise KeyboardInterrupt

    terminal.isatty, terminal.readline = lambda: True, interrupted
    with pytest.raises(Interrupted, match="nothing was changed"):
        prompt.ask("Who? ", "nobody there", "say --leave")


class Closed:
    """An assembly as far as a session cares."""

    def __init__(self) -> None:
        self.closed = 0

    def __enter__(self) -> Closed:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed += 1


@pytest.mark.parametrize("raised", [None, KeyboardInterrupt(), OnPremError("no"), ValueError("a fault")])
def test_a_session_closes_what_it_assembled(raised: BaseException | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Closed] = []

    def assemble(*_: object) -> Assembly:
        made.append(Closed())
        return cast("Assembly", made[-1])

    monkeypatch.setattr(assembly, "assemble", assemble)
    (tmp_path / "config.toml").write_text("[mlflow]\nport = 5001\n")

    def use() -> None:
        with session.session(str(tmp_path / "config.toml")) as run:
            assert run.config.mlflow.port == 5001
            assert isinstance(run.loaded, Loaded)
            run.assemble()
            run.assemble()
            assert [each.closed for each in made] == [0, 0]
            if raised is not None:
                raise raised

    if raised is None:
        use()
    else:
        with pytest.raises(type(raised)):
            use()
    assert [each.closed for each in made] == [1, 1]


def test_the_locks_are_taken_in_one_order_and_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who holds the lock of the host is named to whoever comes second (mutation: restore without it)."""
    monkeypatch.setattr(session, "LOCK", str(tmp_path / "lock"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with session.exclusive(), pytest.raises(OnPremError, match="another mlflow-onprem command is running") as second, session.exclusive():
        pass
    assert "pid " in second.value.message
    with session.exclusive():
        pass


@pytest.mark.parametrize("words", ["install", "uninstall", "rotate-credentials", "upgrade", "restore", "db-role remove"])
def test_what_changes_the_host_holds_its_lock(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With the lock taken by another command nothing of it begins."""
    verb = next(each for each in verbs.VERBS if each.words == words)

    def taken() -> Any:
        raise OnPremError("the lock is taken")

    monkeypatch.setattr(session, "exclusive", taken)
    assert ends(monkeypatch, words_of(verb), verb) == ExitCode.FAILED
    assert capsys.readouterr().err.startswith("error: the lock is taken")


def test_every_exit_code_is_documented() -> None:
    assert set(EXIT_CODES) == set(ExitCode)
    page = manual.manual(typer.main.get_command(cli.app)).partition(".SH EXIT STATUS")[2]
    text = (ROOT / "docs" / "operations.md").read_text()
    for code in ExitCode:
        assert f".B {code:d}\n" in page
        assert re.search(rf"^\| {code:d} \|", text, re.MULTILINE), f"{code!r} is not in docs/operations.md"


def test_verbs_use_one_session_and_build_no_text_of_results() -> None:
    """Only the session takes locks and reads the configuration (and `client-env --check`, which may run where no stack is)."""
    for path in sorted((ROOT / "mlflow_onprem" / "cli").glob("*.py")):
        text = path.read_text()
        if path.name not in ("session.py", "client.py"):
            assert "config_file import load" not in text, path
            assert "assemble(host" not in text, path
        assert not re.search(r"from mlflow_onprem\.\S+ import [^\n]*\b_\w", text), f"{path} imports a private name"


@pytest.mark.parametrize("words", ["plan", "backup create"])
def test_emit_prints_text_or_one_object(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.emit(words, {"a": 1}, "text", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "command": words, "a": 1}
    output.emit(words, {"a": 1}, "text", as_json=False)
    assert capsys.readouterr().out == "text\n"
