"""Load from another machine with MLflow's own client at its default retries: run by test_rotation.py in an environment of MLflow's own client.

Arguments: threads, the fewest calls, a file whose appearance ends it (once that many calls were made). The server and the account come
from the usual MLFLOW_TRACKING_* variables. Every call that fails is told; afterwards the server is asked for what it has.
"""

import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from urllib3.util.retry import Retry

ARTIFACT = 200_000  # bytes
METRICS = 5


RETRIES: list[str] = []


def tell_retries() -> None:
    """What MLflow's client tries again without a word: when, what, and why."""
    increment: Any = Retry.increment

    def telling(self: Any, method: Any = None, url: Any = None, response: Any = None, error: Any = None, *more: Any, **named: Any) -> Any:
        why = f"HTTP {response.status} {response.data[:200]!r}" if response is not None else f"{type(error).__name__}: {error}"
        if str(url).startswith("/api"):
            RETRIES.append(f"{time.strftime('%H:%M:%S')} {method} {url}: {why}"[:400])
        return increment(self, method, url, response, error, *more, **named)

    setattr(Retry, "increment", telling)  # noqa: B010  # a method, replaced


class Client:
    """One of the people: runs, metrics, artifacts, one after the other."""

    def __init__(self, number: int, experiment: str, enough: Callable[[], bool]) -> None:
        self.number, self.experiment, self.enough = number, experiment, enough
        self.client = MlflowClient()
        self.calls = 0
        self.longest = (0.0, "")
        self.failed: list[str] = []
        self.runs: dict[str, tuple[str, str]] = {}

    def timed(self, what: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """One call of MLflow's client; how long it took, or why it failed."""
        started = time.monotonic()
        try:
            return call(*arguments, **named)
        except Exception as error:
            self.failed.append(f"{time.strftime('%H:%M:%S')} {what}: {type(error).__name__}: {str(error)[:300]}")
            return None
        finally:
            self.calls += 1
            self.longest = max(self.longest, (time.monotonic() - started, f"{what}, until {time.strftime('%H:%M:%S')}"))

    def work(self, folder: Path) -> None:
        """Until there is enough."""
        while not self.enough():
            content = os.urandom(ARTIFACT)
            path = folder / f"{self.number}.bin"
            path.write_bytes(content)
            name = f"load-{self.number}-{len(self.runs)}"
            run = self.timed("create run", self.client.create_run, self.experiment, run_name=name)
            if run is None:
                continue
            number = run.info.run_id
            self.runs[number] = (name, hashlib.sha256(content).hexdigest())
            for step in range(METRICS):
                self.timed("log metric", self.client.log_metric, number, "loss", step * 0.5, step=step)
            self.timed("upload", self.client.log_artifact, number, str(path))
            back = self.timed("download", self.client.download_artifacts, number, path.name, str(folder))
            if back is not None and Path(back).read_bytes() != content:
                self.failed.append(f"download of {name}: other bytes")
            self.timed("end run", self.client.set_terminated, number)


def verify(clients: list[Client], experiment: str) -> list[str]:
    """What the server has against what the clients were told: runs lost or double, metrics, and every artifact's bytes."""
    told = {number: row for each in clients for number, row in each.runs.items()}
    found, token = {}, None
    while True:
        page = MlflowClient().search_runs([experiment], max_results=500, page_token=token)
        found.update({run.info.run_id: run for run in page})
        token = page.token
        if not token:
            break
    wrong = [f"run {row[0]} is lost" for number, row in told.items() if number not in found]
    wrong += [f"run {run.info.run_name} is there twice" for number, run in found.items() if number not in told]
    for number, (name, digest) in told.items():
        if number not in found:
            continue
        points = MlflowClient().get_metric_history(number, "loss")
        if len(points) != METRICS:
            wrong.append(f"run {name} has {len(points)} points instead of {METRICS}")
        with tempfile.TemporaryDirectory() as folder:
            files = [each.path for each in MlflowClient().list_artifacts(number)]
            back = [hashlib.sha256(Path(MlflowClient().download_artifacts(number, each, folder)).read_bytes()).hexdigest() for each in files]
            if back != [digest]:
                wrong.append(f"run {name}: artifacts {files} are not what was sent")
    return wrong


def main() -> None:
    """Work, look, tell."""
    threads, fewest, end = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    experiment = MlflowClient().create_experiment(f"load-{time.time_ns()}")
    clients: list[Client] = []
    clients += [Client(number, experiment, lambda: end.exists() and sum(each.calls for each in clients) >= fewest) for number in range(threads)]
    with tempfile.TemporaryDirectory() as folder:
        workers = []
        for each in clients:
            place = Path(folder) / str(each.number)
            place.mkdir()
            workers.append(threading.Thread(target=each.work, args=(place,)))
        started = time.monotonic()
        for worker in workers:
            worker.start()
        print("started", flush=True)
        for worker in workers:
            worker.join()
    seconds = time.monotonic() - started
    stall, where = max(each.longest for each in clients)
    answer = {
        "calls": sum(each.calls for each in clients),
        "seconds": round(seconds, 1),
        "runs": sum(len(each.runs) for each in clients),
        "failed": [line for each in clients for line in each.failed],
        "wrong": verify(clients, experiment),
        "retries": RETRIES,
        "longest_stall_seconds": round(stall, 2),
        "longest_stall_in": where,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    tell_retries()
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    main()
