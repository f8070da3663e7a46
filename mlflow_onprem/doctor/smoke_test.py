"""A client's day in one experiment: a run, metrics, an artifact, a model version, a trace, and nothing of it left behind.

Over REST, because the command's own environment has no MLflow in it; through the address that clients are given.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.core.finding import Finding, error, ok, warning

if TYPE_CHECKING:
    import requests

PREFIX = "mlflow-onprem-doctor-"
ARTIFACT_BYTES = 256 * 1024
#: What an earlier examination left when it was killed is swept away once it is this old, in seconds.
STALE = 600
TIMEOUT = 30.0  # seconds, for one answer
LOGS = "look at `mlflow-onprem logs mlflow`, then `sudo mlflow-onprem install`"


class StepFailed(Exception):
    """One step did not go as a client needs it; the text says what came instead."""


class Rest:
    """MLflow's REST API as one account sees it, never through a proxy: it is this host. `name`: what a client calls it in its Host header."""

    def __init__(self, url: str, account: tuple[str, str] | None, name: str | None = None) -> None:
        import requests

        self.url = url
        self.session = requests.Session()
        if name is not None:
            self.session.headers["Host"] = name
        self.session.trust_env = False
        self.session.auth = account

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request. Raises StepFailed where no answer comes."""
        import requests

        try:
            return self.session.request(method, self.url + path, timeout=TIMEOUT, **options)
        except requests.Timeout:
            raise StepFailed(f"{method} {path}: no answer within {TIMEOUT:.0f} s") from None
        except requests.RequestException as failed:
            refused = "refused" in str(failed)
            raise StepFailed(f"{method} {path}: {'nothing listens at ' + self.url if refused else 'no HTTP answer from ' + self.url}") from None

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, version: str = "2.0") -> dict[str, Any]:
        """A call of MLflow's own API. Raises StepFailed for anything but a good answer."""
        where = {"params": body} if method == "GET" else {"json": body or {}}
        answer = self.send(method, f"/api/{version}/mlflow/{path}", **where)
        if answer.status_code != 200:
            raise StepFailed(f"{method} {path}: HTTP {answer.status_code} {said(answer)}")
        try:
            content: dict[str, Any] = answer.json()
        except ValueError:
            raise StepFailed(f"{method} {path}: the answer is not JSON: something else than MLflow answers there") from None
        return content


def said(answer: requests.Response) -> str:
    """The message of MLflow's error answer, or the beginning of any other."""
    try:
        return str(answer.json()["message"]).partition("\n")[0][:200]
    except (ValueError, KeyError, TypeError):
        return answer.text.strip().partition("\n")[0][:200]


@dataclass
class Trip:
    """What was made so far and has to go again."""

    rest: Rest
    name: str
    content: bytes
    experiment: str = ""
    run: str = ""
    artifacts: str = ""
    trace: str = ""
    model: bool = False
    uploaded: list[str] = field(default_factory=list)


#: Puts bytes to an artifact address and gets them back, where clients talk to the store themselves (`artifacts = "direct"`).
Direct = Callable[[str, bytes], bytes]
#: Removes experiments from the database for good (they are marked deleted already).
Forget = Callable[[list[str]], None]


def travel(rest: Rest, forget: Forget, direct: Direct | None = None) -> Iterator[Finding]:
    """Yields a finding for each step; what follows a failed step is not tried, and whatever was made is cleaned up."""
    trip = Trip(rest, f"{PREFIX}{secrets.token_hex(6)}", secrets.token_bytes(ARTIFACT_BYTES))
    steps: list[tuple[str, Callable[[Trip], str], str]] = [
        ("run", _run, "nobody can log a run"),
        ("metrics", _metrics, "training jobs lose their metrics"),
        ("artifact", lambda t: _artifact(t, direct), "models and files cannot be kept or fetched"),
        ("model version", _model, "models cannot be registered"),
        ("trace", _trace, "traces are lost"),
    ]
    try:
        for check, step, why in steps:
            began = time.monotonic()
            try:
                what = step(trip)
            except StepFailed as failed:
                yield error(check, str(failed), why, LOGS)
                break
            yield ok(check, f"{what} ({(time.monotonic() - began) * 1000:.0f} ms)")
    finally:
        cleaned = _clean(trip, forget)
    yield cleaned


def _run(trip: Trip) -> str:
    rest = trip.rest
    trip.experiment = rest.call("POST", "experiments/create", {"name": trip.name})["experiment_id"]
    created = rest.call("POST", "runs/create", {"experiment_id": trip.experiment, "start_time": _now(), "run_name": "doctor"})["run"]["info"]
    trip.run, trip.artifacts = created["run_id"], created["artifact_uri"]
    return "an experiment and a run were created"


def _metrics(trip: Trip) -> str:
    rest = trip.rest
    rest.call("POST", "runs/log-metric", {"run_id": trip.run, "key": "single", "value": 0.5, "timestamp": _now(), "step": 0})
    metrics = [{"key": f"batch{number}", "value": number / 7, "timestamp": _now(), "step": number} for number in range(50)]
    rest.call("POST", "runs/log-batch", {"run_id": trip.run, "metrics": metrics, "params": [{"key": "p", "value": "v"}]})
    seen = {each["key"]: each["value"] for each in rest.call("GET", "runs/get", {"run_id": trip.run})["run"]["data"]["metrics"]}
    wanted = {"single": 0.5, **{each["key"]: each["value"] for each in metrics}}
    if seen != wanted:
        raise StepFailed(f"{len(seen)} of {len(wanted)} metrics came back as they were logged")
    return "a metric and a batch of 50 came back as they were logged"


def _artifact(trip: Trip, direct: Direct | None) -> str:
    scheme, _, location = trip.artifacts.partition(":")
    if scheme == "mlflow-artifacts":
        path = f"/api/2.0/mlflow-artifacts/artifacts/{quote(location.lstrip('/'))}/doctor.bin"
        answer = trip.rest.send("PUT", path, data=trip.content)
        if answer.status_code != 200:
            raise StepFailed(f"the upload of an artifact was answered with HTTP {answer.status_code} {said(answer)}")
        trip.uploaded.append(f"{location.lstrip('/')}/doctor.bin")
        answer = trip.rest.send("GET", path)
        if answer.status_code != 200:
            raise StepFailed(f"the download of an artifact was answered with HTTP {answer.status_code} {said(answer)}")
        back = answer.content
    elif direct is not None:
        back = direct(f"{trip.artifacts}/doctor.bin", trip.content)
    else:
        raise StepFailed(f"new artifacts would go to {trip.artifacts}, which clients with only the tracking address cannot reach")
    if hashlib.sha256(back).digest() != hashlib.sha256(trip.content).digest():
        raise StepFailed(f"an artifact of {len(trip.content)} bytes came back as {len(back)} other bytes")
    return f"{len(back) // 1024} KiB went to the object store and came back byte for byte"


def _model(trip: Trip) -> str:
    rest = trip.rest
    rest.call("POST", "registered-models/create", {"name": trip.name})
    trip.model = True
    source = {"name": trip.name, "source": f"{trip.artifacts}/model", "run_id": trip.run}
    made = rest.call("POST", "model-versions/create", source)["model_version"]
    found = rest.call("GET", "model-versions/get", {"name": trip.name, "version": made["version"]})["model_version"]
    if found["run_id"] != trip.run:
        raise StepFailed("a registered model version came back with another run")
    return "a model version was registered and found"


def _trace(trip: Trip) -> str:
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": trip.experiment}}
    began = time.gmtime()
    info = {
        "trace_id": f"tr-{secrets.token_hex(16)}",
        "trace_location": place,
        "request_time": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", began),
        "execution_duration": "0.010s",
        "state": "OK",
    }
    trip.trace = info["trace_id"]  # type: ignore[assignment]  # the one string among other values
    trip.rest.call("POST", "traces", {"trace": {"trace_info": info}}, version="3.0")
    found = trip.rest.call("POST", "traces/search", {"locations": [place], "max_results": 10}, version="3.0").get("traces", [])
    if trip.trace not in [each.get("trace_id") for each in found]:
        raise StepFailed("a trace was taken and is not found again")
    return "a trace was logged and found"


def _clean(trip: Trip, forget: Forget) -> Finding:
    """Delete all of it: over REST first (artifacts and permissions go that way), then the rows themselves."""
    try:
        left = _soft(trip)
        stale = _stale(trip.rest, trip.name)
        gone = [each for each in (trip.experiment, *stale) if each]
        if gone:
            forget(gone)
    except StepFailed as failed:
        return _left(trip, str(failed))
    except OnPremError as failed:
        return _left(trip, failed.message)
    if left:
        return _left(trip, f"{left} is still in the object store")
    more = f", with {len(stale)} left by an earlier examination" if stale else ""
    return ok("clean-up", f"all of it was deleted again{more}")


def _left(trip: Trip, what: str) -> Finding:
    if not trip.experiment and not trip.model:
        # Nothing of its own was made; what failed is looking for what earlier examinations left.
        return warning(
            "clean-up",
            f"nothing was made that has to be deleted; what an earlier examination may have left was not looked for: {what}",
            "none of the checks above could be made",
            "fix what else is named here, then run `sudo mlflow-onprem doctor` again",
        )
    made = " and ".join(each for each, there in (("experiment", trip.experiment), ("model", trip.model)) if there)
    return error(
        "clean-up",
        f"what the examination made could not be deleted: {what}",
        f"{made} {trip.name} stay{'' if ' and ' in made else 's'} in your lists",
        "fix what else is named here, then run `sudo mlflow-onprem doctor` again: it sweeps up what is older than ten minutes",
    )


def _soft(trip: Trip) -> str:
    rest = trip.rest
    if trip.trace:
        rest.call("POST", "traces/delete-traces", {"experiment_id": trip.experiment, "request_ids": [trip.trace]})
    if trip.model:
        rest.call("DELETE", "registered-models/delete", {"name": trip.name})
    for path in trip.uploaded:
        rest.send("DELETE", f"/api/2.0/mlflow-artifacts/artifacts/{quote(path)}")
    if trip.experiment:
        rest.call("POST", "experiments/delete", {"experiment_id": trip.experiment})
    left = [path for path in trip.uploaded if rest.send("GET", f"/api/2.0/mlflow-artifacts/artifacts/{quote(path)}").status_code == 200]
    return ", ".join(left)


def _stale(rest: Rest, own: str) -> list[str]:
    """Experiments of examinations that were killed; their models go here too."""
    query = {"filter": f"name LIKE '{PREFIX}%'", "view_type": "ALL", "max_results": 100}
    found = rest.call("POST", "experiments/search", query).get("experiments", [])
    old = [each for each in found if each["name"] != own and int(each["creation_time"]) < _now() - STALE * 1000]
    for each in old:
        if each["lifecycle_stage"] == "active":
            rest.call("POST", "experiments/delete", {"experiment_id": each["experiment_id"]})
    models = rest.call("GET", "registered-models/search", {"filter": f"name LIKE '{PREFIX}%'"}).get("registered_models", [])
    names = {each["name"] for each in old}
    for each in models:
        if each["name"] in names:
            rest.call("DELETE", "registered-models/delete", {"name": each["name"]})
    return [each["experiment_id"] for each in old]


def _now() -> int:
    return int(time.time() * 1000)


def forget_input(experiments: list[str]) -> str:
    """What mlflow_onprem_server.forget reads."""
    return json.dumps({"experiments": experiments})
