"""What is refused before the first change; on real hosts: tests/host/test_refusals.py."""

from __future__ import annotations

import os
import shutil
import socket
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlflow_onprem.core.errors import ConfigError, Refused
from mlflow_onprem.settings.config import BackupSection, Config
from mlflow_onprem.stack import minio
from mlflow_onprem.stack.preflight import ROOM, check, check_data, check_room, check_schedule
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.system.ports import holders
from tests.fakes import FakeHost


def test_who_is_not_root_and_what_is_not_systemd() -> None:
    with pytest.raises(Refused, match="needs root") as caught:
        check(FakeHost(is_root=False), None)  # type: ignore[arg-type]  # refused before it looks at the rest
    assert caught.value.hint == "run it with sudo"
    host = FakeHost()
    host.remove("/run/systemd/system")
    with pytest.raises(Refused, match="systemd does not run this system"):
        check(host, None)  # type: ignore[arg-type]  # the same


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_who_holds_a_port(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        port = listener.getsockname()[1]
        assert holders(LocalHost(), port) == []  # bound, but nobody listens
        listener.listen()
        held, *others = holders(LocalHost(), port)
    assert not others
    assert held.pid == os.getpid()
    assert held.program == Path(Path("/proc/self/cmdline").read_text().split("\0")[0]).name
    assert f"(pid {os.getpid()}, account {held.user}, " in str(held)
    assert holders(LocalHost(), port) == []


@pytest.mark.parametrize(("status", "refused"), [(0, False), (1, True), (127, False)])
def test_a_time_for_backups_is_systemds_to_judge(status: int, refused: bool) -> None:
    host = FakeHost()
    host.script(["systemd-analyze", "calendar", "--", "foo bar"], code=status)
    check_schedule(host, Config())
    config = Config(backup=BackupSection(schedule="foo bar"))
    with pytest.raises(ConfigError, match="'foo bar' is no time of systemd's") if refused else nullcontext():
        check_schedule(host, config)


@pytest.mark.parametrize("full", ["/etc", "/var"])
def test_no_room_for_new_secrets(full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"/etc": ROOM, "/var": ROOM}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[str(path)]))
    check_room(LocalHost())
    free[full] = ROOM - (1 << 20)
    with pytest.raises(Refused, match=rf"{full} has 15.0 MiB free, 16 MiB are needed"):
        check_room(LocalHost())


def test_a_store_whose_disk_is_not_mounted_is_not_founded_anew() -> None:
    host = FakeHost()
    format_file = "/opt/minio/data/.minio.sys/format.json"
    assert minio.missing_data(host, Config().minio) == ()  # before the first start
    host.mkdir("/var/lib/mlflow-onprem", mode=0o755, owner="root", group="root")
    host.mkdir("/opt/minio/data/.minio.sys", mode=0o750, owner="minio", group="minio")
    host.write(minio.FOUNDED, b"/opt/minio/data\n", mode=0o644, owner="root", group="root")
    with pytest.raises(Refused, match="the object store's data is not in /opt/minio/data, where it was") as caught:
        check_data(host, Config())
    assert "sudo mount -a" in caught.value.hint
    assert "mlflow-onprem restore" in caught.value.hint
    host.write(format_file, b"{}", mode=0o644, owner="root", group="root")
    check_data(host, Config())
