"""Parts without MLflow: the notify socket, the journal's format, known credentials, revisions, entry points."""

from __future__ import annotations

import asyncio
import configparser
import logging
import socket
import sqlite3
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest
from mlflow_onprem_server import logs, notify, require_account, revisions, settings

SERVER = Path(settings.__file__).parent


def test_notify_sends_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify.notify("READY=1", "STATUS=x")
        assert receiver.recv(100) == b"READY=1\nSTATUS=x"
    notify.notify("READY=1")  # nobody listens any more
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify.notify("READY=1")


def test_every_line_of_a_record_carries_its_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    record = logging.LogRecord("a", logging.ERROR, "", 0, "one\ntwo", None, None)
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert logs.JournalFormatter("%(message)s").format(record) == "<3>one\n<3>two"
    monkeypatch.delenv("JOURNAL_STREAM")
    assert logs.JournalFormatter("%(message)s").format(record) == "one\ntwo"


def test_known_credentials_expire() -> None:
    now = [0.0]
    known = require_account.KnownCredentials(58, lambda: now[0])
    known.add(b"Basic x")
    assert b"Basic x" in known
    assert b"Basic y" not in known
    now[0] = 58.0
    assert b"Basic x" not in known


def test_without_mlflows_cache_nothing_is_remembered() -> None:
    known = require_account.KnownCredentials(-2)
    known.add(b"Basic x")
    assert b"Basic x" not in known


def _status(path: str, method: str = "GET", headers: list[tuple[bytes, bytes]] | None = None, kind: str = "http") -> int:
    sent: list[MutableMapping[str, Any]] = []

    async def app(scope: require_account.Scope, receive: require_account.Receive, send: require_account.Send) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def authenticate(path: str, authorization: bytes, method: str) -> bool:
        return authorization == b"right"

    async def receive() -> MutableMapping[str, Any]:
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    door = require_account.RequireAccount(app, authenticate, require_account.KnownCredentials(58), "1.2.3")
    scope = {"type": kind, "path": path, "method": method, "headers": headers or []}
    asyncio.run(door(scope, receive, send))
    return int(sent[0].get("status") or sent[0]["code"])


def test_doors() -> None:
    assert _status("/health") == 200
    assert _status("/version") == 200
    assert _status("/version", "POST") == 200  # the app decides; the real one answers 401
    assert _status("/health/x") == 401
    assert _status("/x") == 401
    assert _status("/x", headers=[(b"authorization", b"wrong")]) == 401
    assert _status("/x", headers=[(b"authorization", b"right")]) == 200
    assert _status("/x", "OPTIONS") == 401
    assert _status("/x", "OPTIONS", [(b"origin", b"o"), (b"access-control-request-method", b"GET")]) == 200
    assert _status("/x", kind="websocket") == 1008


def test_the_newest_revision_is_the_one_nobody_follows(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('revision = "aa1"\ndown_revision = None\n')
    (tmp_path / "b.py").write_text("revision: str = 'bb2'\ndown_revision: str | None = 'aa1'\n")
    (tmp_path / "c.py").write_text('revision = "cc3"\ndown_revision = ("bb2", "aa1")\n')
    assert revisions.head(tmp_path) == "cc3"
    (tmp_path / "d.py").write_text('revision = "dd4"\ndown_revision = "aa1"\n')
    with pytest.raises(settings.SettingsError, match="2 newest"):
        revisions.head(tmp_path)


def test_current_revision(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    uri = f"sqlite:///{database}"
    assert revisions.current(uri, "alembic_version") is None
    assert not database.exists()
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('abc')")
    assert revisions.current(uri, "alembic_version") == "abc"
    assert revisions.current(uri, "alembic_version_auth") is None


def test_auth_database_uri(tmp_path: Path) -> None:
    ini = tmp_path / "auth.ini"
    with pytest.raises(settings.SettingsError, match="cannot read"):
        revisions.auth_database_uri(str(ini))
    ini.write_text("[other]\n")
    with pytest.raises(settings.SettingsError, match="no database_uri"):
        revisions.auth_database_uri(str(ini))
    ini.write_text("[mlflow]\ndatabase_uri = sqlite:///x\n")
    assert revisions.auth_database_uri(str(ini)) == "sqlite:///x"


def test_entry_points_name_classes_that_exist() -> None:
    parser = configparser.ConfigParser()
    parser.read(SERVER / "entry_points.txt")
    for target in parser["mlflow.artifact_repository"].values():
        module, name = target.split(":")
        assert f"class {name}(" in (SERVER / f"{module.partition('.')[2]}.py").read_text()


def test_the_package_imports_nothing_of_the_installer() -> None:
    for module in SERVER.glob("*.py"):
        assert "mlflow_onprem." not in module.read_text().replace('"mlflow_onprem.', ""), module
