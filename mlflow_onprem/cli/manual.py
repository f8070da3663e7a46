"""The manual page and the shells' completions, made from the commands themselves.

`python -m mlflow_onprem.cli.manual ROOT` writes them to their places below a root; `bootstrap` does, with /.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from mlflow_onprem import __version__
from mlflow_onprem.core.errors import EXIT_CODES
from mlflow_onprem.system.umask import make_parents

NAME = "mlflow-onprem"
#: Where man, bash-completion, zsh and fish look for what the administrator installed (fish in /usr/local only where a desktop tells it to).
MANUAL = f"usr/local/share/man/man1/{NAME}.1"
COMPLETIONS = {
    "bash": f"usr/local/share/bash-completion/completions/{NAME}",
    "zsh": f"usr/local/share/zsh/site-functions/_{NAME}",
    "fish": f"etc/fish/completions/{NAME}.fish",
}
FILES = {
    "/etc/mlflow-onprem/config.toml": "The configuration; without it everything has its default.",
    "/etc/mlflow-onprem/credentials.json": "Every secret of the stack; root's alone.",
    "/opt/mlflow-onprem": "This program, MLflow's environments and the object store's program.",
}


def manual(root: Any) -> str:
    """The page in roff. `root`: typer's command of the whole program."""
    lines = [
        f'.TH {NAME.upper()} 1 "" "{NAME} {__version__}" "User Commands"',
        ".SH NAME",
        f"{_text(NAME)} \\- {_text(_first_line(root.help))}",
        ".SH SYNOPSIS",
        f".B {_text(NAME)}",
        "COMMAND [OPTIONS] [ARGUMENTS]",
        ".SH DESCRIPTION",
        _text(root.help or ""),
        ".SH OPTIONS",
        *_options(root, _context(root, NAME)),
        ".SH COMMANDS",
    ]
    for words, command in leaves(root):
        context = _context(command, words)
        lines += [f'.SS "{_text(" ".join([NAME, words, *command.collect_usage_pieces(context)]))}"', _text(_paragraphs(command.help))]
        lines += _options(command, context)
    lines += [".SH EXIT STATUS", *(f".TP\n.B {code:d}\n{_text(text)}" for code, text in EXIT_CODES.items())]
    lines += [".SH ENVIRONMENT", ".TP\n.B MLFLOW_ONPREM_SECTION__KEY", _text("Goes before the configuration file: MLFLOW_ONPREM_MLFLOW__PORT=5001.")]
    lines += [".TP\n.B NO_COLOR", "No colours."]
    lines += [".SH FILES", *(f".TP\n.I {_text(path)}\n{_text(text)}" for path, text in FILES.items())]
    return "\n".join(lines) + "\n"


def leaves(command: Any, words: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by the words one types: (`user add`, its command). Hidden ones are left out."""
    for name, child in getattr(command, "commands", {}).items():
        path = f"{words} {name}".strip()
        if child.hidden:
            continue
        if hasattr(child, "commands"):
            yield from leaves(child, path)
        else:
            yield path, child


def completion(app: typer.Typer, shell: str) -> str:
    """A shell's completion script, asked for in the way click documents: by a variable."""
    variable = f"_{NAME.replace('-', '_').upper()}_COMPLETE"
    out = io.StringIO()
    before = os.environ.get(variable)
    os.environ[variable] = f"source_{shell}"
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            app(args=[], prog_name=NAME, standalone_mode=False)
    finally:
        os.environ.pop(variable)
        if before is not None:
            os.environ[variable] = before
    text = out.getvalue().strip() + "\n"
    if shell == "zsh":
        # zsh loads the file at the first TAB: then it must complete at once, not only say how from the second on.
        text = re.sub(
            r"^compdef (\S+) (\S+)$", r'if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then \1 "$@"; else compdef \1 \2; fi', text, flags=re.M
        )
    return text


def write(root: Path) -> list[Path]:
    """Write all of it below a root; what is there already is replaced."""
    from mlflow_onprem.cli import app

    texts = {MANUAL: manual(typer.main.get_command(app)), **{path: completion(app, shell) for shell, path in COMPLETIONS.items()}}
    for path, text in texts.items():
        target = root / path
        make_parents(target)
        _open_up(root, target)
        target.write_text(text, encoding="utf-8")
        target.chmod(0o644)
    return [root / path for path in texts]


def _open_up(root: Path, target: Path) -> None:
    """An earlier run under an umask of 077 left folders of these that only root may enter; they are everybody's."""
    for folder in target.relative_to(root).parents:
        found = (root / folder).stat()
        if folder.parts and found.st_uid == os.geteuid() and found.st_mode & 0o055 != 0o055:
            (root / folder).chmod(stat.S_IMODE(found.st_mode) | 0o055)


def _options(command: Any, context: Any) -> list[str]:
    lines = []
    for each in command.params:
        record = None if getattr(each, "hidden", False) else each.get_help_record(context)
        if record is not None:
            lines += [".TP", f".B {_text(record[0])}", _text(record[1])]
    return lines


def _context(command: Any, words: str) -> Any:
    return command.make_context(words, [], resilient_parsing=True)


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0].rstrip(".") if text else ""


def _paragraphs(text: str | None) -> str:
    return "\n.PP\n".join(part.strip() for part in re.split(r"\n\s*\n", text or ""))


def _text(text: str) -> str:
    """Roff's own characters as what they are, and no line that looks like one of its requests."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return "\n".join(line if line == ".PP" else re.sub(r"^([.'])", r"\\&\1", line.strip()) for line in escaped.splitlines())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
