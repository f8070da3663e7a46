"""The sandboxes themselves: what every other host test stands on."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, find, layers, process
from mlflow_onprem_sandbox.network import bridge_name

from mlflow_onprem.core.errors import CommandFailed, OnPremError
from mlflow_onprem.system.local_host import LocalHost
from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host
HOST = LocalHost()


@pytest.fixture
def layer_key() -> Iterator[str]:
    key = f"test-{os.getpid()}"
    yield key
    HOST.remove(str(layers.layers_dir() / key))


@pytest.mark.long  # not seen green since the modules moved
def test_boots_into_a_plain_healthy_server_in_seconds(host: HostFactory, base: Layer) -> None:
    began = time.monotonic()
    server = host(base, hostname="plain")
    assert time.monotonic() - began < 5
    assert server.run(["systemctl", "is-system-running"]).out.strip() == "running"
    assert server.run(["hostname"]).out.strip() == "plain"
    assert server.address in server.run(["hostname", "-I"]).out
    for absent in ("pip", "make", "python3"):
        assert server.run(["which", absent], ok=(0, 1)).code == 1, f"a bare server has no {absent}"


@pytest.mark.long  # not seen green since the modules moved
def test_programs_inside_see_none_of_this_machines_environment(host: HostFactory, base: Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setenv("PRIVATE", "secret")
    server = host(base)
    lines = server.run(["env"], env={"GIVEN": "1"}).out.splitlines()
    assert "GIVEN=1" in lines
    assert not [line for line in lines if line.startswith(("TMPDIR=", "PRIVATE="))]
    assert server.run(["id", "-un"], user="nobody").out.strip() == "nobody"
    with pytest.raises(CommandFailed) as failed:
        server.run(["sh", "-c", "echo broken >&2; exit 3"])
    assert (failed.value.code, failed.value.output) == (3, "broken")


@pytest.mark.long  # not seen green since the modules moved
def test_apt_and_pip_work_inside(host: HostFactory, base: Layer) -> None:
    server = host(base)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    server.run(["apt-get", "-qq", "update"], timeout=120)
    server.run(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", "python3-venv"], env=quiet, timeout=300)
    server.run(["python3", "-m", "venv", "/opt/venv"])
    server.run(["/opt/venv/bin/pip", "install", "--quiet", "idna"], timeout=120)
    assert server.run(["/opt/venv/bin/python", "-c", "import idna; print(idna.encode('a').decode())"]).out.strip() == "a"


@pytest.mark.long  # not seen green since the modules moved
def test_two_hosts_and_this_machine_reach_each_other(host: HostFactory, base: Layer) -> None:
    one, two = host(base, hostname="one"), host(base, hostname="two")
    assert one.address != two.address
    for each in (one, two):
        listen(each, 8000)
    assert answers(one, two.address, 8000)
    assert answers(two, one.address, 8000)
    assert HOST.run(["bash", "-c", f"exec 3<>/dev/tcp/{one.address}/8000"], ok=(0, 1)).code == 0


@pytest.mark.long  # not seen green since the modules moved
def test_an_isolated_host_is_reached_and_reaches_nothing(host: HostFactory, base: Layer) -> None:
    alone = host(base, network="isolated")
    listen(alone, 8000)
    assert HOST.run(["bash", "-c", f"exec 3<>/dev/tcp/{alone.address}/8000"], ok=(0, 1)).code == 0
    assert "default" not in alone.run(["ip", "route"]).out
    resolver = re.search(r"nameserver (\S+)", Path("/etc/resolv.conf").read_text())
    gateway = re.search(r"inet (\S+)/", HOST.run(["ip", "-4", "address", "show", "dev", bridge_name(str(layers.state_dir()))]).out)
    assert resolver
    assert gateway
    # Even root inside, who can set the route, gets nowhere: this machine does not forward for it.
    alone.run(["ip", "route", "add", "default", "via", gateway[1]])
    assert not answers(alone, resolver[1], 53)
    assert answers(host(base, hostname="free"), resolver[1], 53)


@pytest.mark.long  # not seen green since the modules moved
def test_reboot_keeps_the_disk_and_the_address(host: HostFactory, base: Layer) -> None:
    server = host(base)
    before = server.run(["cat", "/proc/sys/kernel/random/boot_id"]).out, server.run(["cat", "/etc/machine-id"]).out, server.address
    pid = server.leader()
    server.write("/root/kept", "still here")
    server.reboot()
    assert server.leader() != pid
    assert server.read("/root/kept") == b"still here"
    assert (server.run(["cat", "/etc/machine-id"]).out, server.address) == before[1:]


@pytest.mark.long  # not seen green since the modules moved
def test_power_cut_and_next_boot(host: HostFactory, base: Layer) -> None:
    server = host(base)
    server.write("/root/kept", "still here")
    server.kill()
    assert not server.running
    with pytest.raises(OnPremError, match="does not run"):
        server.run(["true"])
    server.boot()
    assert server.read("/root/kept") == b"still here"


@pytest.mark.long  # not seen green since the modules moved
def test_a_snapshot_is_the_floor_of_many_hosts(host: HostFactory, base: Layer, layer_key: str) -> None:
    first = host(base)
    first.write("/opt/tool", "v1")
    first.run(["rm", "/etc/issue"])
    layer = first.snapshot(layer_key)
    assert find(layer_key) == layer
    one, two = host(layer), host(layer)
    for each in (one, two):
        assert each.read("/opt/tool") == b"v1"
        assert each.run(["test", "-e", "/etc/issue"], ok=(0, 1)).code == 1, "a removed file stays removed"
    one.write("/opt/tool", "v2")
    assert two.read("/opt/tool") == b"v1"
    assert len({each.run(["cat", "/etc/machine-id"]).out for each in (one, two)}) == 2
    first.boot()
    assert first.read("/opt/tool") == b"v1"


@pytest.mark.long  # not seen green since the modules moved
def test_a_small_disk_is_full_soon(host: HostFactory, base: Layer) -> None:
    server = host(base, disk="64M")
    result = server.run(["dd", "if=/dev/zero", "of=/root/big", "bs=1M", "count=200"], ok=(1,))
    assert "No space left on device" in result.err


@pytest.mark.long  # not seen green since the modules moved
def test_files_go_in_and_come_out(host: HostFactory, base: Layer, tmp_path: Path) -> None:
    server = host(base)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "run").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "in" / "deep" / "run").chmod(0o755)
    # A path that a symlink of the host leads elsewhere: it is the host's link that counts.
    server.run(["ln", "-s", "/srv/real", "/srv/link"])
    server.push(tmp_path / "in", "/srv/link/tools")
    assert server.run(["/srv/real/tools/deep/run"]).out == "ran\n"
    server.pull("/srv/link/tools", tmp_path / "out")
    assert (tmp_path / "out" / "deep" / "run").read_text() == "#!/bin/sh\necho ran\n"


@pytest.mark.long  # not seen green since the modules moved
def test_what_a_killed_run_left_is_cleaned_by_the_next(host: HostFactory, base: Layer) -> None:
    server = host(base)
    name, old = server.name, server.leader()
    # As after SIGKILL of the test run or a crash of this machine's disk cache: the record is gone, process, mounts and network are not.
    (server.spec.folder / "spec.json").unlink()
    fresh = Sandbox.start(name, base)
    try:
        process.wait_until(lambda: not process.exists(old), 5, "the old host lives on")
        assert fresh.run(["systemctl", "is-system-running"]).out.strip() == "running"
        stranger = HOST.spawn(["sleep", "60", f"--directory={fresh.spec.root}"])
        fresh.destroy()
        assert not process.mounts_below(fresh.spec.folder)
        assert not fresh.spec.folder.exists()
        assert not Path(f"/run/netns/{bridge_name(str(layers.state_dir()))}-{name}").exists()
        stranger.poll()
    finally:
        fresh.destroy()


@pytest.mark.long  # not seen green since the modules moved
def test_a_host_that_lost_its_supervisor_is_cleaned_by_the_next_boot(host: HostFactory, base: Layer) -> None:
    server = host(base)
    pid, inner = process.find(server.spec.root), server.leader()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    process.wait_until(lambda: not server.running, 5, "the supervisor lives on")
    assert process.exists(inner), "this is the case that needs cleaning"
    server.boot()
    process.wait_until(lambda: not process.exists(inner), 5, "the old host lives on")
    assert server.run(["systemctl", "is-system-running"]).out.strip() == "running"


def listen(server: Sandbox, port: int) -> None:
    """A port that accepts connections, by the Perl that every Debian has."""
    # systemd reads $$ as $.
    program = f"$$s = IO::Socket::INET->new(LocalPort => {port}, Listen => 5); close $$_ while $$_ = $$s->accept"
    server.run(["systemd-run", "--quiet", "perl", "-MIO::Socket::INET", "-e", program])
    process.wait_until(lambda: answers(server, "127.0.0.1", port), 10, f"nothing listens on {port}")


def answers(server: Sandbox, address: str, port: int) -> bool:
    return server.run(["timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"], ok=(0, 1, 124)).code == 0
