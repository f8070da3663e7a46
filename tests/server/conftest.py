"""A real MLflow service for the tests: the locked environment, our package in it, a launcher on loopback."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "mlflow_onprem" / "locks" / "mlflow-3.17.2.txt"
ADMIN = "admin:correct-horse-battery"


@pytest.fixture(scope="session")
def mlflow_python() -> Path:
    """The interpreter of an environment made from the lock; MLFLOW_ONPREM_TEST_PYTHON names one that exists."""
    if given := os.environ.get("MLFLOW_ONPREM_TEST_PYTHON"):
        return Path(given)
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    python = ROOT / ".cache" / f"mlflow-env-{sys.version_info[0]}.{sys.version_info[1]}-{digest}" / "bin" / "python"
    ready = python.parent.parent / "ready"
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (ROOT / ".cache" / "mlflow-env.lock").open("w") as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            subprocess.run(["uv", "venv", "--quiet", "--clear", "--python", sys.executable, python.parent.parent], check=True)
            options = ["--require-hashes", "--only-binary", ":all:", "--compile-bytecode"]
            subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, *options, "-r", LOCK], check=True)
            ready.touch()
    return python


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH that holds our package and its entry points, as the installer writes them."""
    folder = tmp_path_factory.mktemp("site")
    server = ROOT / "server" / "mlflow_onprem_server"
    (folder / "mlflow_onprem_server").symlink_to(server)
    info = folder / "mlflow_onprem_server-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mlflow-onprem-server\nVersion: 0\n")
    (info / "entry_points.txt").write_bytes((server / "entry_points.txt").read_bytes())
    return folder


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Service:
    """A service to be: its settings, and the process once it is started."""

    python: Path
    environ: dict[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return int(self.environ["ONPREM_PORT"])

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def python_json(self, *arguments: str) -> object:
        """Run MLflow's interpreter with this service's settings; return the JSON it prints."""
        done = subprocess.run([self.python, *arguments], env=self.environ, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def start(self) -> None:
        """Start the launcher and wait until it tells systemd (that is us) that it is ready."""
        address = self.folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, (self.folder / "log").open("ab") as log:
            receiver.bind(str(address))
            receiver.settimeout(1)
            self.process = subprocess.Popen(
                [self.python, "-m", "mlflow_onprem_server"],
                env={**self.environ, "NOTIFY_SOCKET": str(address)},
                cwd=self.folder,
                stderr=log,
                start_new_session=True,
            )
            deadline = time.monotonic() + 120
            message = ""
            while "READY=1" not in message:
                assert self.process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                try:
                    message = receiver.recv(4096).decode()
                except TimeoutError:
                    continue
        address.unlink()

    def stop(self) -> None:
        """Stop the launcher as systemd does, and its whole session if it does not obey."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)

    def call(self, method: str, path: str, account: str | None = None, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send one request over a connection of its own."""
        sent = dict(headers or {})
        if account:
            sent["Authorization"] = "Basic " + base64.b64encode(account.encode()).decode()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


def make_service(python: Path, installed: Path, folder: Path) -> Service:
    """Write the files a service needs, on SQLite, and return it with its schema migrated."""
    secrets = {
        "FLASK_SECRET": "flask-secret",
        "KEK_PASSPHRASE": "a passphrase for keys",
        "WEBHOOK_KEY": base64.urlsafe_b64encode(bytes(32)).decode(),
        "ADMIN_PASSWORD": ADMIN.partition(":")[2],
    }
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(installed), "TMPDIR": str(folder)}
    for name, value in secrets.items():
        (folder / name).write_text(value)
        environ[f"ONPREM_{name}_FILE"] = str(folder / name)
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\nadmin_username = admin\nauth_cache_ttl_seconds = 60\ndatabase_uri = sqlite:///{folder}/auth.db\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ |= {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "ONPREM_DATABASE_URI": f"sqlite:///{folder}/mlflow.db",
        "ONPREM_BUCKET": "mlflow",
        "ONPREM_PORT": str(port),
        "ONPREM_WORKERS": "1",
        # Nothing answers there: the tests of the doors never reach the store.
        "MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    service = Service(python, environ, folder)
    service.python_json("-m", "mlflow_onprem_server.schema")
    return service


@pytest.fixture(scope="session")
def service(mlflow_python: Path, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service with accounts."""
    service = make_service(mlflow_python, installed, tmp_path_factory.mktemp("service"))
    service.start()
    yield service
    service.stop()
