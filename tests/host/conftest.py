"""Real hosts for scenarios: a base, a bootstrapped and an installed layer made once, and a fresh host on any of them for each test."""

from __future__ import annotations

import faulthandler
import hashlib
import os
import re
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, install_tools, layers, prepare, product, remove_network_if_unused
from mlflow_onprem_sandbox import spec as specs

from mlflow_onprem.sandbox.command import store_from_source
from mlflow_onprem.system.local_host import LocalHost
from tests.host.clients import clients_layer

ARTIFACTS = Path(__file__).parent / ".artifacts"
RELEASE = os.environ.get("MLFLOW_ONPREM_TEST_RELEASE", "bookworm")
#: Seconds for one test with the layers it makes; on a loaded machine everything takes several times its quiet time.
DEADLINE = int(os.environ.get("MLFLOW_ONPREM_TEST_DEADLINE", "1800"))
DEADLINE_LONG = 4 * DEADLINE
#: Seconds for throwing its hosts away after that.
TEARDOWN = 300
_FAILED = pytest.StashKey[bool]()


class HostFactory(Protocol):
    """`host()` is a fresh clone of the installed layer; any layer, name and option of `Sandbox.start` may be given."""

    def __call__(self, layer: Layer | None = None, *, hostname: str = "server", **options: Any) -> Sandbox: ...


@pytest.fixture(scope="session")
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Progress of what is made once, past pytest's capture."""
    reporter: Any = pytestconfig.pluginmanager.get_plugin("terminalreporter")

    def write(text: str) -> None:
        if not text.startswith("["):  # install's own lines; a failure shows their end
            reporter.write_line(f"  {text}")

    return write


@pytest.fixture(scope="session")
def base(say: Callable[[str], None]) -> Iterator[Layer]:
    """A plain server."""
    if os.geteuid() != 0:
        pytest.fail("host tests need root: run `make test` with sudo")
    install_tools(LocalHost(), say)
    _clear_leftovers()
    yield prepare(RELEASE, on_progress=say)
    remove_network_if_unused()


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Whoever runs the tests in the background may have had Ctrl-C ignored, and every program started here would inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def bootstrapped(base: Layer, say: Callable[[str], None]) -> Layer:
    """With this checkout's `mlflow-onprem` on it."""
    return product.bootstrapped(base, product.checkout(), say)


@pytest.fixture(scope="session")
def store(say: Callable[[str], None]) -> Path:
    """The object store's program, built on this machine once."""
    return store_from_source(LocalHost(), say)


@pytest.fixture(scope="session")
def config(store: Path) -> str:
    """A configuration that needs no download of a program: the store at its path inside, where `product.configure(host, config, store)` puts it."""
    return f'[minio]\nurl = "file://{store}"\nsha256 = "{hashlib.sha256(store.read_bytes()).hexdigest()}"\n'


@pytest.fixture(scope="session")
def installed(bootstrapped: Layer, config: str, store: Path, say: Callable[[str], None]) -> Layer:
    """With the whole stack on it."""
    return product.installed(bootstrapped, config, say, store=store)


@pytest.fixture(scope="session")
def clients(base: Layer, say: Callable[[str], None]) -> Layer:
    """Another machine, with MLflow's clients and nothing of ours."""
    return clients_layer(base, say)


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[HostFactory]:
    """Makes hosts for this test and throws them away after it; of a failed test the journals stay in tests/host/.artifacts."""
    yield from _hosts(request, request.node.name.removeprefix("test_"))


@pytest.fixture(scope="module")
def module_host(request: pytest.FixtureRequest) -> Iterator[HostFactory]:
    """The same for hosts that the tests of one file share."""
    yield from _hosts(request, request.node.path.stem.removeprefix("test_"))


def _hosts(request: pytest.FixtureRequest, title: str) -> Iterator[HostFactory]:
    made: list[Sandbox] = []
    test = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")

    def make(layer: Layer | None = None, *, hostname: str = "server", **options: Any) -> Sandbox:
        if options.get("network") != "isolated":
            options.setdefault("binds", product.caches())
        name = f"t{os.getpid()}-{test[:24].rstrip('-')}-{len(made)}"
        sandbox = Sandbox.start(name, layer or request.getfixturevalue("installed"), hostname=hostname, **options)
        made.append(sandbox)
        return sandbox

    yield make
    for sandbox in made:
        if request.node.stash.get(_FAILED, False):
            _keep_evidence(sandbox, test)
        sandbox.destroy()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files of many minutes first, so that no process is alone with one at the end."""
    first = ("test_upgrade", "test_rotation", "test_backup", "test_adoption", "test_uninstall")
    items.sort(key=lambda item: next((number for number, name in enumerate(first) if item.path.stem == name), len(first)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Every test ends: at its deadline all threads are shown and it fails, and what it began is thrown away like any failed test's."""
    seconds = DEADLINE_LONG if item.get_closest_marker("long") else DEADLINE

    def late(*_: object) -> None:
        faulthandler.dump_traceback(file=2)
        signal.setitimer(signal.ITIMER_REAL, TEARDOWN)
        pytest.fail(f"it had {seconds} seconds; where every thread was is on standard error")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for node in item.listchain():
            node.stash[_FAILED] = True
    return report


def _keep_evidence(sandbox: Sandbox, test: str) -> None:
    folder = ARTIFACTS / test
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    journal = sandbox.journal() if sandbox.running else ""
    (folder / f"{sandbox.spec.hostname}.journal").write_text(journal)
    (folder / f"{sandbox.spec.hostname}.console").write_text(sandbox.console(1000))
    last = "\n".join(journal.splitlines()[-25:])
    print(f"--- {sandbox.name}: journal and console are in {folder}; the last lines:\n{last or sandbox.console()}")


def _clear_leftovers() -> None:
    """Hosts of test runs that were killed: their name has the pid of a run that is no more. pytest's processes all come here at the same moment."""
    with layers.locked("leftovers"):
        for name in specs.names():
            found = re.match(r"t(\d+)-", name)
            if found and not Path(f"/proc/{found[1]}").exists():
                Sandbox.discard(name)
