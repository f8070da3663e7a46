"""Words that an English-speaking administrator would not write stay out of the pages and, once PACKAGE is True, of the programs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: The programs' own text: messages, help, docstrings and comments, and with them the output that pages quote. True once that text is rewritten.
PACKAGE = True
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")]
SOURCES = [*ROOT.glob("mlflow_onprem/**/*.py"), *ROOT.glob("server/**/*.py"), *ROOT.glob("sandbox/**/*.py")]
TEXTS = [ROOT / "bootstrap", ROOT / "config.example.toml", *ROOT.glob("units/*"), *ROOT.glob("mlflow_onprem/*.sh")]
QUOTED = re.compile(r"^(```.*?^```|(?: {4}|\t).*?)$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def words() -> list[tuple[re.Pattern[str], str]]:
    """Each pattern of words.txt with what to write instead."""
    lines = (ROOT / "tests" / "words.txt").read_text().splitlines()
    parts = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [(re.compile(pattern, re.IGNORECASE), instead) for pattern, instead in parts]


def prose(path: Path) -> str:
    """A page without what it quotes: code, names and, until PACKAGE is True, the programs' output. Lines keep their numbers."""
    text = path.read_text()
    if PACKAGE and path.name != "CONTRIBUTING.md":
        return text
    return QUOTED.sub(lambda found: "\n" * found[0].count("\n"), text)


def spoken(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every string, docstring and comment in a module; names of things are not text."""
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for number, line in enumerate(text.splitlines(), 1):
        if "#" in line:
            yield number, line.partition("#")[2]


def found_in(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        yield from (f"{number}: {found[0]} (write: {instead})" for pattern, instead in words() if (found := pattern.search(line)))


@pytest.mark.parametrize("path", [*PAGES, *([*SOURCES, *TEXTS] if PACKAGE else [])], ids=lambda path: str(path.relative_to(ROOT)))
def test_it_is_in_plain_english(path: Path) -> None:
    texts = spoken(path) if path.suffix == ".py" else [(1, prose(path) if path.suffix == ".md" else path.read_text())]
    assert not [f"{path}, line {line} and on: {each}" for line, text in texts for each in found_in(text)]


def test_the_words_are_found() -> None:
    assert list(found_in("46 changed, 2 as wanted")) == ["1: as wanted (write: unchanged)"]
    assert not list(found_in("46 changed, 2 unchanged; it was rolled back"))
