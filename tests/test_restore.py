"""A restore's journal, what it brings to a host and what it leaves there; its list of steps is replayed in test_restore_replay.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mlflow_onprem.backup import encryption
from mlflow_onprem.backup.encryption import Keys
from mlflow_onprem.backup.repository import Folder
from mlflow_onprem.core.errors import OnPremError, Refused
from mlflow_onprem.core.procedure import Record
from mlflow_onprem.core.resource import Text
from mlflow_onprem.resources.files import Directory, File
from mlflow_onprem.restore import command, state, steps
from mlflow_onprem.restore.state import Journal
from mlflow_onprem.settings import credentials
from mlflow_onprem.settings.config import Config
from mlflow_onprem.stack import timers
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.system.systemd import Systemd
from tests.test_backup import NOW, made

ETC = "/etc/mlflow-onprem"

TIMER = f"{timers.BACKUP}.timer"


@pytest.fixture
def host(tmp_path: Path) -> LocalHost:
    found = LocalHost(tmp_path)
    found.local(state.FILES).mkdir(parents=True)
    found.local(ETC).mkdir(parents=True)
    return found


def written(host: LocalHost, journal: Journal) -> None:
    Record(host, state.JOURNAL, journal).save()


def brought(host: LocalHost, files: dict[str, bytes]) -> None:
    """As if a backup with these files had been fetched."""
    other = LocalHost(host.local("/other"))
    for path, content in files.items():
        other.local(path).parent.mkdir(parents=True, exist_ok=True)
        other.local(path).write_bytes(content)
        other.local(path).chmod(0o640)
    encryption.pack(other, host.local(state.FILES) / "host.tar", files, ())


def test_a_bare_host_gets_what_is_missing_and_keeps_what_somebody_wrote(host: LocalHost) -> None:
    host.local(f"{ETC}/config.toml").write_text("mine")
    brought(host, {f"{ETC}/config.toml": b"theirs", f"{ETC}/credentials.json": b"{}", "/root/s3": b"keys"})
    assert state.unpack_missing(host) == [f"kept {ETC}/config.toml as it was here; the backup's own differs"]
    assert host.read(f"{ETC}/config.toml") == b"mine"
    # For root alone until install gives it its owner.
    assert [host.local(path).stat().st_mode & 0o777 for path in (f"{ETC}/credentials.json", "/root/s3")] == [0o600, 0o600]


def test_killed_while_it_brings_files_the_host_still_counts_as_bare(host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    brought(host, {f"{ETC}/credentials.json": b"{}", f"{ETC}/a": b"", f"{ETC}/z": b"", "/root/s3": b"keys"})
    written: list[str] = []
    original = LocalHost.write

    def write(self: LocalHost, path: str, content: bytes, **attributes: Any) -> None:
        written.append(path)
        original(self, path, content, **attributes)

    monkeypatch.setattr(LocalHost, "write", write)
    state.unpack_missing(host)
    assert len(written) == 4
    assert written[-1] == credentials.PATH


def test_a_host_with_a_stack_takes_the_secrets_of_the_data_and_keeps_its_own(host: LocalHost) -> None:
    here, there = credentials.generate(), credentials.generate()
    there = dataclasses.replace(there, mlflow_admin="boss")
    text = credentials.serialize(here).reveal().encode()
    host.local(credentials.PATH).write_bytes(text)
    brought(host, {credentials.PATH: credentials.serialize(there).reveal().encode()})
    assert state.merge_credentials(host)
    merged = credentials.parse((host.read(credentials.PATH) or b"").decode())
    taken = ("mlflow_admin", "mlflow_admin_password", "flask_secret_key", "kek_passphrase", "webhook_key")
    kept = ("minio_root_user", "minio_root_password", "s3_access_key", "s3_secret_key", "postgres_password")
    assert [getattr(merged, name) for name in taken] == [getattr(there, name) for name in taken]
    assert [getattr(merged, name) for name in kept] == [getattr(here, name) for name in kept]
    # Run again after a kill, the way back still leads to what was here first.
    state.merge_credentials(host)
    state.credentials_back(host)
    assert host.read(credentials.PATH) == text


@pytest.mark.parametrize(("backup", "mine", "refused"), [("3.17.2", "3.17.2", False), ("3.9.0", "3.17.2", False), ("3.18.0", "3.17.2", True)])
def test_a_later_mlflow_is_refused(backup: str, mine: str, refused: bool) -> None:
    config = Config.model_validate({"mlflow": {"version": mine}})
    if not refused:
        state.check_versions(made("x", NOW, mlflow=backup), config)
        return
    with pytest.raises(Refused, match=backup):
        state.check_versions(made("x", NOW, mlflow=backup), config)


def test_rows_that_name_another_bucket_are_refused() -> None:
    with pytest.raises(Refused, match="models"):
        state.check_versions(made("x", NOW, bucket="models", artifacts="direct"), Config())
    state.check_versions(made("x", NOW, bucket="models"), Config())


def test_another_restore_waits_for_the_one_that_was_broken_off(host: LocalHost) -> None:
    written(host, Journal(id="a", address="/b", bare=False, rescue="r"))
    with pytest.raises(Refused) as refused:
        command.restore(host, Config(), Folder(host, "/b"), Keys(), "c")
    assert "restore a" in refused.value.hint
    assert "restore r" in refused.value.hint


@pytest.mark.parametrize(("named", "undo"), [("r", False), ("a", True)])
def test_undoing_is_asked_for_by_its_backup_or_goes_on(host: LocalHost, monkeypatch: pytest.MonkeyPatch, named: str, undo: bool) -> None:
    """It needs nothing of the backup that was being restored: there is none in this repository."""
    # As the version before wrote it, which did not say what was begun: all is undone.
    host.local(state.JOURNAL).write_text(Journal(id="a", address="/b", bare=False, rescue="r", undo=undo).model_dump_json(exclude={"begun"}))
    done: list[str] = []
    for step in ("secrets_back", "databases_back", "objects_back", "serve", "finish"):
        monkeypatch.setattr(steps, step, lambda _, step=step: done.append(step))
    assert command.restore(host, Config(), Folder(host, "/b"), Keys(), named).undone
    assert done == ["secrets_back", "databases_back", "objects_back", "serve"]
    assert not host.local(state.FOLDER).exists()


def test_a_damaged_journal_is_told(host: LocalHost) -> None:
    host.local(state.JOURNAL).write_text("{")
    with pytest.raises(OnPremError, match=r"journal\.json is damaged"):
        state.read_journal(host)


# the timer -----------------------------------------------------------------------------------------------------------------


def units(host: LocalHost, **settings: Any) -> dict[str, Any]:
    resources = timers.backup(Config.model_validate({"backup": settings}), Systemd(host, (TIMER,)))
    return {each.name: each.want for each in resources}


def test_without_a_schedule_there_are_no_units(host: LocalHost) -> None:
    found = units(host)
    assert set(found.values()) == {None}
    assert next(iter(found)) == f"service:{TIMER}", "stopped before its files go"


def test_with_a_schedule_the_service_may_write_its_folder_and_waits_for_its_disk(host: LocalHost) -> None:
    resources = timers.backup(Config.model_validate({"backup": {"schedule": "Mon *-*-* 04:00", "to": "/mnt/disk/b"}}), Systemd(host, (TIMER,)))
    texts = {each.path: each.want.content for each in resources if isinstance(each, File) and each.want is not None}
    assert all(isinstance(each, Text) for each in texts.values())
    joined = "\n".join(each.value for each in texts.values() if isinstance(each, Text))
    assert "OnCalendar=\nOnCalendar=Mon *-*-* 04:00\n" in joined
    assert "RequiresMountsFor=/mnt/disk/b\n" in joined
    assert "ReadWritePaths=/mnt/disk/b\n" in joined
    folder = next(each for each in resources if isinstance(each, Directory) and each.path == "/mnt/disk/b")
    assert folder.holds_data
    assert folder.want is not None
    assert folder.want.mode.value == 0o700


def test_backups_elsewhere_need_no_folder_here(host: LocalHost) -> None:
    wanted = {"schedule": "daily", "to": "s3://bucket/x", "credentials_file": "/etc/s3", "passphrase_file": "/etc/p"}
    assert not [name for name in units(host, **wanted) if "s3://" in name]
