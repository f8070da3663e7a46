"""Rules of the code that a reader may rely on, checked on its syntax trees."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlflow_onprem

PACKAGE = Path(mlflow_onprem.__file__).parent
ROOT = PACKAGE.parent
#: server/ runs inside MLflow's environment, without this package; sandbox/ stands on core/ and system/ alone.
CORE = sorted(PACKAGE.rglob("*.py"))
SANDBOX = sorted((ROOT / "sandbox" / "mlflow_onprem_sandbox").rglob("*.py"))
MODULES = [*CORE, *SANDBOX, *sorted((ROOT / "server" / "mlflow_onprem_server").rglob("*.py"))]
MAX_LINES = 280
#: The packages from the bottom up: a module imports from its own and from those below it. One that is not listed fails the test.
LAYERS = (
    "core",
    "system",
    "clients",
    "resources",
    "settings",
    "stack",
    "status",
    "install",
    "client",
    "users",
    "db_role",
    "gc",
    "logs",
    "bundle",
    "uninstall",
    "rotation",
    "sandbox",
    "backup",
    "restore",
    "doctor",
    "upgrade",
    "cli",
    "__main__",
)
#: Who takes a secret out of its wrapping: those who hand it to a program, a server or a person that asked for it.
REVEALS = {
    "backup/boot.py",
    "backup/encryption.py",
    "backup/passphrase.py",
    "backup/s3.py",
    "cli/client.py",
    "client/check.py",
    "client/env.py",
    "client/reach.py",
    "clients/mlflow_api.py",
    "clients/object_store.py",
    "clients/sql.py",
    "clients/store_contract/trial.py",
    "db_role/command.py",
    "db_role/render.py",
    "doctor/command.py",
    "resources/database.py",
    "resources/files.py",
    "resources/rotation.py",
    "resources/services.py",
    "restore/state.py",
    "rotation/proof.py",
    "sandbox/render.py",
    "settings/credentials.py",
    "settings/db_roles.py",
    "settings/shared_credentials.py",
    "stack/mlflow.py",
    "system/local_host.py",
    "upgrade/state.py",
    "users/command.py",
}


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Names of every module imported anywhere in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or "server" in path.parts, f"{path}: a relative import"
            yield from (f"{node.module}.{each.name}" for each in node.names)


def ours(path: Path) -> Iterator[str]:
    """The packages of ours a file imports from."""
    for name in imports(path):
        if name.startswith("mlflow_onprem.") and (PACKAGE / name.split(".")[1]).is_dir():
            yield name.split(".")[1]


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        assert not list(ours(path))
        return
    assert part(path) in LAYERS, f"{path} is in no layer: give it one in LAYERS"
    for name in ours(path):
        assert LAYERS.index(name) <= LAYERS.index(part(path)), f"{path.relative_to(PACKAGE)} imports {name}, which stands above it"


def test_the_sandbox_stands_on_core_and_system_and_nothing_imports_the_server() -> None:
    for path in SANDBOX:
        assert set(ours(path)) <= {"core", "system"}, path
    for path in [*CORE, *SANDBOX]:
        assert not any(name.startswith("mlflow_onprem_server") for name in imports(path)), path


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Names of modules as they are imported, at whatever place in a file, for types alone too."""
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path for path in CORE}
    arrows = {
        name: {found for each in imports(path) if (found := each if each in names else each.rpartition(".")[0]) in names and found != name}
        for name, path in names.items()
    }
    # What is left when modules that import nothing left are taken away, again and again, is a circle and what leads there.
    while free := {name for name, to in arrows.items() if not to & arrows.keys()}:
        arrows = {name: to for name, to in arrows.items() if name not in free}
    used = {each for to in arrows.values() for each in to}
    assert not {name for name in arrows if name in used}


def test_only_the_door_starts_processes() -> None:
    calls = re.compile(r"^(subprocess|os\.(system|popen|exec\w+|spawn\w+|fork\w*)|pty)(\.|$)")
    users = {str(path.relative_to(PACKAGE)) for path in CORE for name in imports(path) if calls.match(name)}
    users |= {
        str(path.relative_to(PACKAGE))
        for path in CORE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and calls.match(f"{node.value.id}.{node.attr}")
    }
    # children.py watches and ends what local_host.py started.
    assert users == {"system/local_host.py", "system/children.py"}
    started = [node for node in ast.walk(ast.parse((PACKAGE / "system/children.py").read_text())) if isinstance(node, ast.Call)]
    assert not [
        node for node in started if calls.match(ast.unparse(node.func)) and not ast.unparse(node.func).startswith("subprocess.TimeoutExpired")
    ]


def test_secrets_are_taken_out_of_their_wrapping_in_a_few_places_only() -> None:
    users = {str(path.relative_to(PACKAGE)) for path in CORE if ".reveal(" in path.read_text()}
    assert users == REVEALS


def test_no_secret_goes_into_an_argument_list() -> None:
    """`.reveal()` inside the first argument of a `run` or `spawn`."""
    for path in CORE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("run", "spawn") and node.args:
                revealed = [each for each in ast.walk(node.args[0]) if isinstance(each, ast.Attribute) and each.attr == "reveal"]
                assert not revealed, f"{path}:{node.lineno}"


def test_only_the_command_line_prints_and_exits() -> None:
    allowed = {"cli"}
    for path in CORE:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or part(path) in allowed or path.name == "sql_child.py":
                continue
            assert not (isinstance(node.func, ast.Name) and node.func.id in ("print", "exit", "input")), f"{path}:{node.lineno}"
            assert ast.unparse(node.func) not in ("sys.exit", "os._exit"), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_fits_in_one_head(path: Path) -> None:
    text = path.read_text()
    limit = 390 if path.name == "local_host.py" else MAX_LINES  # all that touches the system, in one place
    assert len(text.splitlines()) <= limit
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    named_by_design = ("resource",)  # inside a package it hides nothing
    assert path.stem in ("__init__", "__main__", *named_by_design) or path.stem not in sys.stdlib_module_names, "it has a standard library name"
    assert path.stem not in ("utils", "helpers", "common", "misc")
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "it does not say what it is"


def test_no_shell_is_ever_started() -> None:
    for path in CORE:
        text = path.read_text()
        assert "shell=True" not in text, path
        assert not re.search(r"\[\s*\"(ba)?sh\",\s*\"-c\"", text), path


def test_programs_that_tests_run_inside_hosts_import_what_exists() -> None:
    """They are texts: neither mypy nor a move of modules sees them."""
    wrong = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for module, names in re.findall(r"from (mlflow_onprem(?:_sandbox)?(?:\.\w+)*) import (\w+(?:, \w+)*)", node.value):
                    for name in names.split(", "):
                        if not hasattr(importlib.import_module(module), name) and importlib.util.find_spec(f"{module}.{name}") is None:
                            wrong.append(f"{path.name}:{node.lineno}: {module}.{name}")
    assert wrong == []
