"""docs/private-names.md lists what the server leans on inside MLflow, uvicorn and SQLAlchemy that they may change without notice.

A new one fails here until it is listed: `MLFLOW_ONPREM_TEST_GOLDEN=write pytest tests/test_private_names.py` writes the page.
Whoever takes a new MLflow goes through it line by line (CONTRIBUTING.md).
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "server" / "mlflow_onprem_server"
PAGE = ROOT / "docs" / "private-names.md"
#: Other people's code in the server's process. The first word of a module's dotted name.
FOREIGN = {"mlflow", "uvicorn", "sqlalchemy", "alembic", "botocore", "boto3", "starlette", "fastapi", "flask", "werkzeug", "cryptography", "psycopg"}
#: Of these projects modules count as private, too: MLflow documents few of its own, uvicorn documents its settings and `Config`.
INTERNAL = re.compile(r"^(mlflow\.(?!entities|exceptions|version)\w+|uvicorn\.\w+)")
PRIVATE = re.compile(r"^_[A-Za-z]\w*$")
#: A module that is imported by its name in a string.
MODULE = re.compile(r"[a-z]\w*(\.\w+)+")
VARIABLE = re.compile(r"^_MLFLOW_\w+$")
SECTIONS = {
    "names": "Names with an underscore",
    "variables": "Variables of the environment",
    "replaced": "Replaced while it runs",
    "subclassed": "Subclassed, with the methods we define",
    "modules": "Undocumented modules, loggers and keys",
}
HEAD = """# Private names we use

What the server (`server/mlflow_onprem_server/`) uses of MLflow, uvicorn and SQLAlchemy that may change without notice. The locks pin
the versions; before taking a new one, check each line ([CONTRIBUTING.md](../CONTRIBUTING.md#take-a-new-mlflow)). Generated from the
code by `tests/test_private_names.py`.
"""


def imported(tree: ast.AST) -> dict[str, str]:
    """Each local name that stands for something of other projects, with its dotted name there."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module and node.module.split(".")[0] in FOREIGN:
            names.update({each.asname or each.name: f"{node.module}.{each.name}" for each in node.names})
        elif isinstance(node, ast.Import):
            names.update({each.asname or each.name: each.name for each in node.names if each.name.split(".")[0] in FOREIGN})
    return names


def own(tree: ast.AST) -> set[str]:
    """Underscore names that a module defines itself: functions, classes, variables, attributes of `self`."""
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return names | {node.attr for node in stored if isinstance(node.value, ast.Name) and node.value.id == "self"}


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """An attribute by its full name where its first word was imported, else `.name` alone: of whatever object."""
    first, _, rest = ast.unparse(node).partition(".")
    return f"{names[first]}.{rest}" if first in names else f".{rest.rpartition('.')[2]}"


def underscored(node: ast.AST, names: dict[str, str], mine: set[str]) -> Iterator[str]:
    """Private attributes of other people's objects, also by `getattr` and the like."""
    if isinstance(node, ast.Attribute) and PRIVATE.match(node.attr):
        of = ast.unparse(node.value)
        elsewhere = of == "super()" or of.split(".")[0] in names
        if (elsewhere or node.attr not in mine) and of not in sys.stdlib_module_names:
            yield dotted(node, names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
        of_, name = node.args[0], node.args[1]
        if isinstance(name, ast.Constant) and (PRIVATE.match(str(name.value)) or ast.unparse(of_).split(".")[0] in names):
            yield dotted(ast.Attribute(value=of_, attr=str(name.value), ctx=ast.Load()), names)


def built_upon(node: ast.AST, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Classes that are subclassed and attributes that are assigned to."""
    if isinstance(node, ast.ClassDef):
        methods = [each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
        bases = [names.get(ast.unparse(each), "") for each in node.bases]
        yield from (("subclassed", f"{each}: {', '.join(methods)}") for each in bases if INTERNAL.match(each))
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Attribute) and ast.unparse(target).split(".")[0] in names:
                yield "replaced", dotted(target, names)


def private(text: str) -> Iterator[tuple[str, str]]:
    """(section, name) of everything private that a module's text uses."""
    tree = ast.parse(text)
    names, mine = imported(tree), own(tree)
    for name in names.values():
        if any(PRIVATE.match(part) for part in name.split(".")):
            yield "names", name
        elif INTERNAL.match(name):
            yield "modules", name
    for node in ast.walk(tree):
        yield from (("names", each) for each in underscored(node, names, mine))
        yield from built_upon(node, names)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if VARIABLE.match(node.value):
                yield "variables", node.value
            elif MODULE.fullmatch(node.value) and INTERNAL.match(node.value):
                yield "modules", node.value


def inherited() -> set[str]:
    """Underscore names that any module of the server defines: a mixin's `self._x` may be another module's."""
    return {name for path in SERVER.glob("*.py") for name in own(ast.parse(path.read_text())) if PRIVATE.match(name)}


def page() -> str:
    """The page as the code says it must be."""
    ours = inherited()
    found: dict[str, dict[str, set[str]]] = {section: defaultdict(set) for section in SECTIONS}
    for path in sorted(SERVER.glob("*.py")):
        for section, name in private(path.read_text()):
            if name.removeprefix(".") in ours:
                continue
            found[section][name].add(path.name)
    parts = [HEAD]
    for section, title in SECTIONS.items():
        parts.append(f"\n## {title}\n| name | used by |\n| --- | --- |\n")
        parts += [f"| `{name.removeprefix('.')}` | {', '.join(sorted(users))} |\n" for name, users in sorted(found[section].items())]
    return "".join(parts)


def test_every_private_name_is_listed() -> None:
    wanted = page()
    if os.environ.get("MLFLOW_ONPREM_TEST_GOLDEN") == "write":
        PAGE.write_text(wanted)
    assert PAGE.read_text() == wanted, (
        f"{PAGE.name} does not match the code: run this test with MLFLOW_ONPREM_TEST_GOLDEN=write and check each new line"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from uvicorn import _subprocess", ("names", "uvicorn._subprocess")),
        ("from mlflow.server import handlers\nhandlers._get_tracking_store()", ("names", "mlflow.server.handlers._get_tracking_store")),
        ("def f(store): store._hard_delete_run(1)", ("names", "._hard_delete_run")),
        ("def f(x): return getattr(x, '_inner')", ("names", "._inner")),
        ("from mlflow.server import auth\nauth.store.get_user = 1", ("replaced", "mlflow.server.auth.store.get_user")),
        ("E = '_MLFLOW_SERVER_FILE_STORE'", ("variables", "_MLFLOW_SERVER_FILE_STORE")),
        ("from mlflow.utils import crypto", ("modules", "mlflow.utils.crypto")),
        ("M = 'mlflow.webhooks.ssrf'", ("modules", "mlflow.webhooks.ssrf")),
        (
            "from uvicorn.supervisors.multiprocess import Multiprocess\nclass S(Multiprocess):\n    def run(self): ...",
            ("subclassed", "uvicorn.supervisors.multiprocess.Multiprocess: run"),
        ),
    ],
)
def test_what_counts_as_private(text: str, expected: tuple[str, str]) -> None:
    assert expected in set(private(text))


@pytest.mark.parametrize(
    "text", ["import os\nos._exit(0)", "class A:\n    def f(self):\n        self._x = 1\n        return self._x", "from mlflow.entities import Run"]
)
def test_what_is_not_private(text: str) -> None:
    assert not list(private(text))
