"""Requests on kept connections, timed: what one client, or several at once, get out of a tracking server."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

API = "/api/2.0/mlflow"


@dataclass
class Server:
    """A tracking server under load, with the experiment and run that the requests are about."""

    address: str
    user: str = ""
    password: str = ""
    experiment: str = ""
    run: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        """A connection that is kept; http.client sends without Nagle's delay."""
        return http.client.HTTPConnection(self.address, 5000, timeout=60)

    def call(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
        """One request. Raises RuntimeError for any status but 200."""
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, self.headers | ({"Content-Type": "application/json"} if data else {}))
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: HTTP {answer.status}: {content[:200]!r}")
        return json.loads(content) if content[:1] == b"{" else content

    def prepare(self) -> None:
        """Make what the reads are about: 100 runs, one of them with 30 metrics, 10 parameters and 5 tags."""
        if self.user:
            self.headers["Authorization"] = "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        connection = self.connect()
        name = f"bench-{time.time_ns()}"
        self.experiment = self.call(connection, "POST", f"{API}/experiments/create", {"name": name})["experiment_id"]
        for _ in range(100):
            made = self.call(connection, "POST", f"{API}/runs/create", {"experiment_id": self.experiment, "start_time": 1})
            self.run = made["run"]["info"]["run_id"]
        batch = {
            "run_id": self.run,
            "metrics": [{"key": f"m{i}", "value": i, "timestamp": 1, "step": 0} for i in range(30)],
            "params": [{"key": f"p{i}", "value": "x" * 20} for i in range(10)],
            "tags": [{"key": f"t{i}", "value": "x" * 20} for i in range(5)],
        }
        self.call(connection, "POST", f"{API}/runs/log-batch", batch)


def requests(server: Server) -> dict[str, Callable[[http.client.HTTPConnection], Any]]:
    """The calls that are measured, by name."""
    hundred = [{"key": f"b{i}", "value": i, "timestamp": 1, "step": 0} for i in range(100)]
    post: Callable[[http.client.HTTPConnection, str, Any], Any] = lambda c, path, body: server.call(c, "POST", f"{API}/{path}", body)  # noqa: E731  # short
    return {
        "health": lambda c: server.call(c, "GET", "/health"),
        "create run": lambda c: post(c, "runs/create", {"experiment_id": server.experiment, "start_time": 1}),
        "log-metric": lambda c: post(
            c, "runs/log-metric", {"run_id": server.run, "key": "loss", "value": 1.0, "timestamp": time.time_ns(), "step": 1}
        ),
        "log-batch of 100": lambda c: post(c, "runs/log-batch", {"run_id": server.run, "metrics": hundred}),
        "get run": lambda c: server.call(c, "GET", f"{API}/runs/get?run_id={server.run}"),
        "search 100 runs": lambda c: post(c, "runs/search", {"experiment_ids": [server.experiment], "max_results": 100}),
    }


def rate(server: Server, name: str, connections: int, seconds: float) -> float:
    """Calls a second over `seconds`, on that many kept connections."""
    call = requests(server)[name]
    counts = [0] * connections
    failures: list[Exception] = []
    barrier = threading.Barrier(connections + 1)
    end = 0.0

    def client(index: int) -> None:
        try:
            connection = server.connect()
            call(connection)
            barrier.wait()
            while time.monotonic() < end:
                call(connection)
                counts[index] += 1
        except Exception as failed:  # handed to the caller below
            failures.append(failed)
            barrier.abort()

    threads = [threading.Thread(target=client, args=(index,)) for index in range(connections)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds + 5
    barrier.wait()
    started = time.monotonic()
    end = started + seconds
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) / (time.monotonic() - started)
