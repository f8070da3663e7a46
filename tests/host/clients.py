"""Another machine with MLflow's own clients, and what they are made to do there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlflow_onprem_sandbox import Layer, Sandbox, layers, product
from uv import find_uv_bin

#: The server's own version, and the last of the line before it, with what each needs besides: boto3 is what `direct` asks of a client;
#: 2.22 imports setuptools, and with a newer OpenTelemetry it loses its traces without a word.
PACKAGES = {
    "3.17.2": ("boto3",),
    "2.22.5": ("boto3", "setuptools<81", "opentelemetry-sdk<1.36"),
    "3.14.0": ("boto3",),
    "3.1.4": ("boto3", "setuptools<81"),
}
EVERY_VERSION = tuple(PACKAGES)
VERSIONS = EVERY_VERSION[:2]
SCRIPT = Path(__file__).with_name("client_script.py")
UV = "/usr/local/bin/uv"
#: What the script compares with what it sent.
EVERYTHING = ("params", "metrics", "artifacts", "listed", "registry", "trace", "experiment_0", "search", "deleted")


def clients_layer(base: Layer, say: Callable[[str], None]) -> Layer:
    """A plain machine with one environment a client version, made once."""
    key = f"clients-{hashlib.sha256(json.dumps([base.key, PACKAGES]).encode()).hexdigest()[:12]}"
    with layers.locked("build"):
        return product.kept_layer(key, base, _install, say, "client")


def _install(machine: Sandbox) -> None:
    machine.run(["apt-get", "-qq", "update"], timeout=300)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    machine.run(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", "python3"], env=quiet, timeout=300)
    machine.push(Path(find_uv_bin()), UV)
    for version, more in PACKAGES.items():
        machine.run([UV, "venv", "--quiet", "--python", "/usr/bin/python3", f"/opt/mlflow-{version}"])
        python = f"/opt/mlflow-{version}/bin/python"
        argv = [UV, "pip", "install", "--quiet", "--link-mode", "copy", "--compile-bytecode", "--python", python]
        machine.run([*argv, f"mlflow-skinny=={version}", *more], timeout=900)
    machine.run(["rm", UV])


def variables(server: Sandbox) -> dict[str, str]:
    """What `client-env` gives on the server."""
    found: dict[str, str] = json.loads(server.run(["mlflow-onprem", "client-env", "--json"]).out)["variables"]
    return found


def use(client: Sandbox, version: str, environment: Mapping[str, str], task: str = "everything", *more: str) -> dict[str, Any]:
    """Run one task of the script in that version's environment, with these variables and no others. Raises CommandFailed."""
    client.push(SCRIPT, "/root/client_script.py")
    argv = [f"/opt/mlflow-{version}/bin/python", "/root/client_script.py", task, *more]
    answer: dict[str, Any] = json.loads(client.run(argv, env=environment, timeout=120).out.splitlines()[-1])
    return answer


def worked(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Of the answer to `everything`, what came back as it was sent."""
    return {name: answer[name] for name in EVERYTHING}


def reaches(client: Sandbox, address: str, port: int) -> bool:
    """Whether a TCP connection comes about."""
    return client.run(["timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"], ok=(0, 1, 124)).code == 0


def http_status(client: Sandbox, url: str, *, method: str = "GET", headers: Mapping[str, str] = {}, body: str = "") -> int:
    """The status of one request, made by Python's own library."""
    program = (
        "import json, sys, urllib.request, urllib.error\n"
        "url, method, headers, body = json.load(sys.stdin)\n"
        "request = urllib.request.Request(url, body.encode() or None, headers, method=method)\n"
        "opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))\n"
        "try:\n    print(opener.open(request, timeout=20).status)\nexcept urllib.error.HTTPError as failed:\n    print(failed.code)\n"
    )
    return int(client.run(["python3", "-c", program], stdin=json.dumps([url, method, dict(headers), body])).out)
