"""What leaves the server: error messages, webhooks, the page. Tried on MLflow's own functions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from mlflow_onprem_server import page, webhooks

from .conftest import make_service

SCRIPT = Path(__file__).with_name("answers_script.py")


@pytest.mark.mlflow
def test_what_leaves_the_server(mlflow_python: Path, installed: Path, tmp_path: Path) -> None:
    found = make_service(mlflow_python, installed, tmp_path).python_json(str(SCRIPT))
    assert isinstance(found, dict)
    assert found["listed"] == 200
    for name in ("other port", "other name", "https", "metadata", "account"):
        assert "webhook_hosts" in found[name], (name, found[name])
    assert "not a public IP address" in found["sent on"]
    assert "no such table: experiments" in found["error"]
    for secret in ("SELECT", "[SQL", "other people", "sqlalche.me"):
        assert secret not in found["error"]
    assert f'localStorage.setItem("{page.KEY}_v{page.VERSION}","false")' in found["page"]
    assert found["page"].index("localStorage") < found["page"].index("<script defer")


@pytest.mark.mlflow
def test_the_page_keeps_its_switch_where_ours_writes(mlflow_python: Path) -> None:
    """In the script of MLflow's page, which a new version may change."""
    build = next((mlflow_python.parent.parent / "lib").glob("python3*/site-packages/mlflow/server/js/build/static/js"))
    done = subprocess.run(["grep", "-rlF", f'="{page.KEY}"', build], capture_output=True, text=True, check=True)
    assert done.stdout
    assert subprocess.run(["grep", "-rqF", "=>`${e}_v${t}`", build], check=False).returncode == 0


def test_receivers() -> None:
    listed = webhooks.Receivers(("chat.example.com", "https://ci.example.com:8443", "http://10.0.0.5:8080", "[fd00::1]"))
    for url in (
        "https://chat.example.com/x?y",
        "https://CHAT.example.com.:443/",
        "https://ci.example.com:8443/",
        "http://10.0.0.5:8080/",
        "https://[fd00::1]/",
    ):
        assert listed.url(url), url
    unlisted: tuple[str | None, ...] = (
        "http://chat.example.com/",
        "https://chat.example.com:8443/",
        "https://x.chat.example.com/",
        "http://10.0.0.5/",
        "https://10.0.0.5:8080/",
        "https://chat.example.com@evil.example/",
        "https://a@chat.example.com/",
        "https://[broken/",
        None,
    )
    for other in unlisted:
        assert not listed.url(other), other
    assert listed.connection("https", "[fd00::1]", None)
    assert listed.connection("http", "10.0.0.5", 8080)
    assert not listed.connection("http", "10.0.0.6", 8080)
