"""What install refuses, and what goes wrong on its way: a message that says what and what next, the exit code, and nothing half done."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, product

from tests.host import steps
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
WEB = Path(__file__).with_name("bad_web.py")
LOCKER = """\
import fcntl, pathlib, sys, time
with open(sys.argv[1], "a+") as file:
    fcntl.lockf(file, fcntl.LOCK_EX)
    pathlib.Path("/run/held").touch()
    while pathlib.Path("/run/held").exists():
        time.sleep(0.05)
"""


#: How each host looked before its first refusal; none of them may change that.
PICTURES: dict[str, dict[str, Any]] = {}


@pytest.fixture(scope="module")
def plain(module_host: HostFactory, bootstrapped: Layer, config: str, store: Path) -> Sandbox:
    """A server with the command on it and nothing installed; no test here may change that."""
    made = module_host(bootstrapped)
    product.configure(made, config, store)
    return made


@pytest.fixture(scope="module")
def full(module_host: HostFactory) -> Sandbox:
    """A server with everything on it and a web server that gives bad downloads."""
    made = module_host()
    steps.install(made)
    made.push(WEB, "/root/bad_web.py")
    steps.python_in(made, "bad-web", ["/root/bad_web.py"], 8088)
    return made


def picture(server: Sandbox) -> dict[str, Any]:
    """What a plan says, but for the generated names, and every file of ours."""
    code, answer = steps.plan(server)
    # Whether a bucket that is not there is known to be missing depends on whether anybody, a stranger perhaps, answers on the store's port.
    changes = sorted((each["resource"].partition("access-key:")[0], each["action"].replace("unknown", "create")) for each in answer["changes"])
    files = server.run(["find", "/etc/mlflow-onprem", "/opt", "/var/lib/mlflow-onprem", "/etc/systemd/system", "-not", "-path", "*/cli/*"], ok=(0, 1))
    return {"code": code, "changes": changes, "unchanged": answer["unchanged"], "files": sorted(files.out.split())}


def refused(server: Sandbox, *words: str, code: int = 1, config: str | None = None) -> str:
    """Install fails with that code and these words, no traceback, and what is there stays as it was."""
    before = PICTURES.get(server.name) or PICTURES.setdefault(server.name, picture(server))
    kept = server.read(product.CONFIG)
    result = steps.attempt(server, config)
    server.write(product.CONFIG, kept)
    assert result.code == code, result.err
    for word in (*words, "what next:"):
        assert re.search(word, result.err), f"{word!r} is not in:\n{result.err}"
    assert "Traceback" not in result.err
    assert picture(server) == before
    assert steps.leftovers(server) == []
    return result.err


def test_not_root(plain: Sandbox) -> None:
    """Another user is told to take sudo."""
    before = picture(plain)
    result = plain.run(["mlflow-onprem", "install"], user="nobody", ok=steps.ANY)
    assert result.code == 1
    assert "needs root" in result.err
    assert "sudo" in result.err
    assert picture(plain) == before


def test_not_systemd(plain: Sandbox) -> None:
    """A container, a chroot, another init: said before anything is changed."""
    before = picture(plain)
    hidden = "mount -t tmpfs tmpfs /run/systemd && exec mlflow-onprem install"
    result = plain.run(["unshare", "--mount", "sh", "-c", hidden], ok=steps.ANY)
    assert result.code == 1
    assert "systemd does not run this system" in result.err
    assert "what next: use a plain server" in result.err
    assert picture(plain) == before


@pytest.mark.parametrize(("port", "key"), [(9000, "minio.port"), (9001, "minio.console_port"), (5432, "postgres.port"), (5000, "mlflow.port")])
def test_a_port_held_by_a_stranger(plain: Sandbox, port: int, key: str) -> None:
    """Named with process and program, and the setting that gives ours another port; the stranger lives on."""
    steps.python_in(plain, f"stranger-{port}", ["-m", "http.server", str(port)], port)
    pid = steps.show(plain, f"stranger-{port}.service", "MainPID")["MainPID"]
    try:
        refused(plain, rf"port {port} is held by another program: python3 \(pid {pid}", re.escape(key))
        assert steps.show(plain, f"stranger-{port}.service", "MainPID")["MainPID"] == pid
    finally:
        plain.run(["systemctl", "stop", f"stranger-{port}"])


def test_a_port_held_on_an_installed_host(full: Sandbox, config: str) -> None:
    """The same when the configuration moves a service of ours to a port that is taken: ours goes on where it is."""
    before = steps.running(full)
    refused(full, "port 8088 is held by another program: python3", config=steps.configured(config, mlflow="port = 8088"))
    assert steps.running(full) == before
    assert steps.status(full)[0] == 0


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("403", ("answers HTTP 403", "a company proxy")),
        ("404", ("answers HTTP 404", "there is no such file")),
        ("410", ("answers HTTP 410", "taken away for good")),
        ("html", ("a web page instead of a file",)),
        ("html-in-disguise", ("a web page instead of a file",)),
        ("nobody-listens", ("cannot be reached",)),
    ],
)
def test_a_download_that_is_none(plain: Sandbox, full: Sandbox, path: str, words: tuple[str, ...]) -> None:
    """Refused before the first change, with the settings that lead on."""
    port = 1 if path == "nobody-listens" else 8088
    text = f'[minio]\nurl = "http://{full.address}:{port}/{path}"\nsha256 = "{"0" * 64}"\n'
    refused(plain, *words, "`url` and `sha256` of a mirror", 'distribution = "source"', config=text)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("wrong", ("is not the file it should be: its sha256 is [0-9a-f]{64}, not 0{64}", "never run it")),
        ("truncated", ("ended early", "run the same command again|mirror")),
        ("text", ("is not the file it should be|neither a Linux program",)),
    ],
)
def test_a_download_that_turns_out_bad(full: Sandbox, path: str, words: tuple[str, ...]) -> None:
    """It never gets its final name, and what ran before runs on untouched."""
    before = steps.running(full)
    text = f'[minio]\nurl = "http://127.0.0.1:8088/{path}"\nsha256 = "{"0" * 64}"\n'
    fails_at(full, text, "binary:", *words)
    assert steps.running(full) == before


def fails_at(server: Sandbox, text: str, resource: str, *words: str, code: int = 1) -> str:
    """Install fails at that resource; with the old configuration the host is whole at once."""
    kept = server.read(product.CONFIG)
    result = steps.attempt(server, text)
    server.write(product.CONFIG, kept)
    assert result.code == code, result.err
    for word in (f"error: {resource}", *words, "what next:"):
        assert re.search(word, result.err), f"{word!r} is not in:\n{result.err}"
    assert "Traceback" not in result.err
    assert steps.leftovers(server) == []
    assert steps.plan(server)[1]["changes"] == []
    return result.err


def test_another_mlflow_onprem_at_work(plain: Sandbox) -> None:
    """Two never change the same host at once; who is at work is named."""
    plain.run(
        [
            "systemd-run",
            "--quiet",
            "--unit=other",
            "flock",
            "/run/mlflow-onprem.lock",
            "sh",
            "-c",
            "echo pid 4711 > /run/mlflow-onprem.lock; sleep 600",
        ]
    )
    try:
        steps.until(lambda: plain.run(["cat", "/run/mlflow-onprem.lock"], ok=steps.ANY).out.startswith("pid"), "the lock is held")
        refused(plain, r"another mlflow-onprem command is running \(pid 4711\)", "wait until it is done")
    finally:
        plain.run(["systemctl", "stop", "other"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[minio\n", ("is not valid TOML",)),
        ("[mlflow]\nprot = 5000\n", ("mlflow.prot is not a setting; did you mean mlflow.port",)),
        ("[mlflow]\nport = 99999\n", ("mlflow.port", "65535")),
        ('[mlflow]\nadmin_password = "hunter2"\n', ("looks like a secret",)),
        ("[mlflow]\nport = 9000\n", ("9000",)),
    ],
    ids=["malformed", "unknown key", "out of range", "a secret", "ports that collide"],
)
def test_a_wrong_configuration(plain: Sandbox, text: str, words: tuple[str, ...]) -> None:
    """Exit code 2, the key and what is wrong with it, never its value."""
    said = refused(plain, *words, code=2, config=text)
    assert "hunter2" not in said


def test_a_configuration_nobody_may_read(plain: Sandbox) -> None:
    """A user who may not read it is told so, and how to change that; a folder in its place is told to root."""
    plain.run(["chmod", "0600", product.CONFIG])
    try:
        for command in ("plan", "status", "install"):
            result = plain.run(["mlflow-onprem", command], user="nobody", ok=steps.ANY)
            assert (result.code, "may not be read by this user" in result.err, "chmod 0644" in result.err) == (2, True, True), result.err
    finally:
        plain.run(["chmod", "0644", product.CONFIG])
    result = plain.run(["mlflow-onprem", "install", "--config", "/etc"], ok=steps.ANY)
    assert (result.code, "/etc cannot be read" in result.err) == (2, True)
    result = plain.run(["mlflow-onprem", "install", "--config", "/nowhere.toml"], ok=steps.ANY)
    assert (result.code, "there is no configuration at /nowhere.toml" in result.err) == (2, True)


@pytest.mark.long  # not seen green since the modules moved
def test_too_little_space(host: HostFactory, bootstrapped: Layer, config: str, store: Path) -> None:
    """Known before the first change: how much there is, how much is needed."""
    small = host(bootstrapped, disk="900M")
    product.configure(small, config, store)
    refused(small, r"/opt has 0\.\d GiB free, 3\.0 GiB are needed", "df -h")


def test_the_disk_fills_up_on_the_way(host: HostFactory, config: str, store: Path) -> None:
    """A full disk is said plainly, leaves nothing half-written, and once there is space the same command goes on."""
    small = host(disk="600M")
    steps.install(small)
    copy = store.read_bytes() + b"\n"
    small.write("/dev/shm/other", copy)
    text = f'[minio]\nurl = "/dev/shm/other"\nsha256 = "{hashlib.sha256(copy).hexdigest()}"\n'
    small.run(["sh", "-c", "fallocate -l $(($(df --output=avail -B1 / | tail -1) - 80000000)) /root/big"])
    fails_at(small, text, "binary:", "No space left on device", "free some space")
    small.run(["rm", "/root/big"])
    assert "service:minio.service" in steps.install(small, text)["changed"]
    assert steps.status(small)[0] == 0


def test_a_service_that_starts_and_dies(full: Sandbox, config: str) -> None:
    """The last lines of its journal and where to find the rest; with the right program install fixes it."""
    script = b"#!/bin/sh\necho 'FATAL: cannot read the drive' >&2\nexit 1\n"
    text = f'[minio]\nurl = "/root/dies"\nsha256 = "{hashlib.sha256(script).hexdigest()}"\n'
    full.write("/root/dies", script)
    result = steps.attempt(full, text)
    assert (result.code, "neither a Linux program nor a .tar.gz" in result.err) == (1, True), result.err
    # A real program that ends at once, and says why.
    program = full.read("/usr/bin/false")
    full.write("/root/dies", program)
    text = text.replace(hashlib.sha256(script).hexdigest(), hashlib.sha256(program).hexdigest())
    result = steps.attempt(full, text)
    assert result.code == 1
    for word in ("error: service:minio.service: `systemctl restart minio.service`", "status=1/FAILURE", "what next: .*journalctl -u minio.service"):
        assert re.search(word, result.err), result.err
    assert steps.status(full)[0] == 4
    assert "service:minio.service" in steps.install(full, config)["changed"]
    assert steps.status(full)[0] == 0
    assert steps.plan(full)[0] == 0


def test_mlflow_that_cannot_start(full: Sandbox, config: str) -> None:
    """A restart that fails shows what the service itself said; when that is mended the same command goes on."""
    drop_in = "/etc/systemd/system/mlflow.service.d"
    full.write(f"{drop_in}/broken.conf", "[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo I am broken; exit 3'\n")
    full.run(["systemctl", "daemon-reload"])
    result = steps.attempt(full, steps.configured(config, mlflow="workers = 1"))
    assert result.code == 1, result.err
    for word in ("error: service:mlflow.service: `systemctl restart mlflow.service`", "I am broken", "what next: .*journalctl -u mlflow.service"):
        assert re.search(word, result.err), result.err
    full.run(["rm", "-r", drop_in])
    assert steps.install(full)["changed"] == ["service:mlflow.service"]
    assert steps.status(full)[0] == 0


def test_apt_and_dpkg_in_use_or_interrupted(host: HostFactory, config: str) -> None:
    """dpkg was interrupted, and others hold its lock and the lists' lock: it says so, waits, finishes what was interrupted, goes on."""
    server = host()
    steps.install(server)
    server.run(["sh", "-c", "cd /root && apt-get -qq update && apt-get -qq download postgresql-15"], timeout=120)
    server.run(["sh", "-c", "dpkg --unpack /root/postgresql-15_*.deb"], timeout=120)
    assert server.run(["dpkg", "--audit"]).out.strip()
    said = waits_for(server, "/var/lib/dpkg/lock-frontend")
    assert "dpkg was interrupted" in said
    assert server.run(["dpkg", "--audit"]).out.strip() == ""
    assert steps.plan(server)[0] == 0
    server.run(["sh", "-c", "dpkg --remove --force-depends postgresql-15 && find /var/lib/apt/lists -name '*Packages*' -delete"], timeout=120)
    assert "packages:postgresql-15" in waits_for(server, "/var/lib/apt/lists/lock")
    assert steps.plan(server)[0] == 0
    assert steps.status(server)[0] == 0


def waits_for(server: Sandbox, lock: str) -> str:
    """Install while somebody else holds the lock, who lets go once it has said that it waits; what it said."""
    steps.python_in(server, "locker", ["-c", LOCKER, lock])
    steps.until(lambda: server.run(["test", "-e", "/run/held"], ok=(0, 1)).code == 0, "the lock is held")
    said: list[str] = []

    def heard(line: str) -> None:
        said.append(line)
        if "another program is using apt" in line:
            server.run(["rm", "/run/held"])

    server.follow(["mlflow-onprem", "install"], heard, timeout=180)
    assert any("another program is using apt" in line for line in said), said
    assert server.run(["test", "-e", "/run/held"], ok=(0, 1)).code == 1
    return "\n".join(said)
