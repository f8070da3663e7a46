"""MLflow's own client on the host, and file names as people have them: `names`, `refusals`, `read RUN`, `delete RUN`. Prints one JSON object.

Run with the server's environment and the variables of `client-env`.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mlflow
from mlflow.artifacts import download_artifacts, list_artifacts
from mlflow.exceptions import MlflowException

#: Names that a store, a file system or a URL might not give back: they are stored and come back as they are.
FINE = (
    "plain.txt", "end ", "two  blanks", "caf\u00e9", "cafe\u0301", "Case", "case", "あ" * 80,
    "🎉", "a+b&c=d", "a:b|c", "x;y", "back\\slash",
    "...", "xl.meta", "part.1", "deep/" * 40 + "f", ".minio.sys", "12345678-1234-1234-1234-123456789abc",
)  # fmt: skip
#: Names that would not: the words of the answer.
REFUSED = {
    "x__XLDIR__": "__XLDIR__",
    "line\nbreak": "control character",
    "tab\tname": "control character",
    "ends;": "read as 'ends'",
    " start": "read as 'start'",
    "Run:1.txt": "read as 'run:1.txt'",
}


def names() -> object:
    """Every fine name is listed and downloaded with its own content; every other one is refused, and nothing is left of it."""
    with mlflow.start_run() as run:
        for number, name in enumerate(FINE):
            mlflow.log_text(f"content {number}", f"odd/{name}")
        answers = {name: refusal(partial(mlflow.log_text, "x", f"odd/{name}")) for name in REFUSED}
    assert all(word in (answers[name] or "") for name, word in REFUSED.items()), answers
    sent = {f"odd/{name}": f"content {number}" for number, name in enumerate(FINE)}
    return {"sent": sent, **read(run.info.run_id)}


def refusals() -> object:
    """A file beside a folder of its name, in each order and depth, by the calls of a client; what was there first stays."""
    with mlflow.start_run() as run:
        mlflow.log_text("first", "config")
        mlflow.log_text("first", "x/y/z/w.txt")
        tries = {
            "below": lambda: mlflow.log_text("second", "config/train.yaml"),
            "far below": lambda: mlflow.log_text("second", "config/a/b/c.txt"),
            "parent": lambda: mlflow.log_text("second", "x/y"),
            "top": lambda: mlflow.log_text("second", "x"),
            "folder": lambda: log_folder("config"),
            "large": lambda: log_large("x"),
            "dict": lambda: mlflow.log_dict({}, "config/d.json"),
        }
        answers = {name: refusal(call) for name, call in tries.items()}
        mlflow.log_text("again", "config")
    return {"run": run.info.run_id, "answers": answers, **read(run.info.run_id)}


def read(run: str) -> dict[str, object]:
    """What is listed, and what a download of the whole run has."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(download_artifacts(run_id=run, dst_path=folder))
        downloaded = {str(path.relative_to(whole)): path.read_text() for path in whole.rglob("*") if path.is_file()}
    return {"listed": sorted(walk(run, None)), "downloaded": downloaded}


def delete(run: str) -> object:
    """Delete the run."""
    mlflow.delete_run(run)
    return {}


def walk(run: str, folder: str | None) -> list[str]:
    """Every file that is listed."""
    found = list_artifacts(run_id=run, artifact_path=folder)
    return [name for each in found for name in (walk(run, each.path) if each.is_dir else [each.path])]


def refusal(call: Callable[[], object]) -> str | None:
    """What the server said; None where it took the file."""
    try:
        call()
    except (MlflowException, OSError) as answer:
        return str(answer)
    return None


def log_folder(target: str) -> None:
    """A folder of files."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "f").write_text("second")
        mlflow.log_artifacts(folder, target)


def log_large(name: str) -> None:
    """More than one part."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(bytes(30 << 20))
        mlflow.log_artifact(str(Path(folder, name)))


TASKS: dict[str, Callable[..., object]] = {"names": names, "refusals": refusals, "read": read, "delete": delete}
print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))
