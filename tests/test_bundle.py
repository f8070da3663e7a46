"""When a bundle is used: only for exactly what it holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mlflow_onprem.bundle import command
from mlflow_onprem.core.errors import ConfigError
from mlflow_onprem.settings.config import Config, MinioSection, MlflowSection
from mlflow_onprem.settings.config_file import load
from mlflow_onprem.system import bundle
from mlflow_onprem.system.local_host import LocalHost
from tests.fakes import FakeHost

FOLDER = bundle.FOLDER


def test_without_a_bundle_nothing_changes() -> None:
    host = FakeHost()
    assert (bundle.pip_options(host, "a==1"), bundle.program(host, "0" * 64), bundle.apt_options(host, ("postgresql-15",))) == ([], None, [])


def test_wheels_are_taken_for_the_very_lock_they_were_made_for() -> None:
    host = FakeHost()
    host.put(f"{FOLDER}/manifest.json", json.dumps({"locks": [hashlib.sha256(b"a==1").hexdigest()]}))
    assert "--no-index" in bundle.pip_options(host, "a==1")
    assert bundle.pip_options(host, "a==2") == [], "a later lock comes from the network again"


def test_packages_are_taken_where_the_bundle_holds_all_of_them() -> None:
    host = FakeHost()
    host.put(f"{FOLDER}/debs/Packages", "Package: postgresql-15\nVersion: 1\n\nPackage: libpq5\nVersion: 1\n")
    assert f"Dir::Etc::sourcelist={FOLDER}/apt.list" in bundle.apt_options(host, ("postgresql-15",))
    assert bundle.apt_options(host, ("postgresql-15", "python3.11")) == []


def test_a_program_is_known_by_its_digest() -> None:
    host = FakeHost()
    host.put(f"{FOLDER}/programs/{'a' * 64}", b"\x7fELF")
    assert bundle.program(host, "a" * 64) == f"{FOLDER}/programs/{'a' * 64}"
    assert bundle.program(host, "b" * 64) is None


def test_a_release_without_the_configured_python_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "bundle.tar"
    with pytest.raises(ConfigError, match=r"jammy has Python 3\.10"):
        command.create(LocalHost(), Config(mlflow=MlflowSection(python="3.11")), target, "jammy", "amd64", lambda _: None)
    with pytest.raises(ConfigError, match="no bundle for focal"):
        command.create(LocalHost(), Config(mlflow=MlflowSection(python="3.10")), target, "focal", "amd64", lambda _: None)
    assert not target.exists()


def test_the_bundle_carries_what_says_what_is_in_it_and_nothing_of_the_machine(tmp_path: Path) -> None:
    """`install` on the other host, without the same configuration."""
    digest = "a" * 64
    made = Config(
        minio=MinioSection(url="file:///root/minio", sha256=digest, data_dir="/srv/objects"), mlflow=MlflowSection(python="3.12", port=5001)
    )
    path = tmp_path / "config.toml"
    path.write_text(command.carried(made))
    loaded = load(str(path), {})
    assert dict(loaded.sources) == dict.fromkeys(("minio.url", "minio.sha256", "mlflow.python"), str(path))
    assert loaded.config.minio.url == f"file://{FOLDER}/programs/{digest}"
    assert (loaded.config.minio.sha256, loaded.config.mlflow.python) == (digest, "3.12")


def test_defaults_need_no_configuration() -> None:
    assert command.carried(Config()) == ""
    assert 'distribution = "source"' in command.carried(Config(minio=MinioSection(distribution="source")))


def test_packages_chosen_at_install_are_refused(tmp_path: Path) -> None:
    config = Config(mlflow=MlflowSection(extra_packages=("mlflow-plugin",)))
    with pytest.raises(ConfigError, match="without a network there is none"):
        command.create(LocalHost(), config, tmp_path / "bundle.tar", "bookworm", "amd64", lambda _: None)


def test_a_store_that_the_bundle_does_not_hold_is_said() -> None:
    host = FakeHost()
    assert bundle.other_store(host) == ""
    host.put(f"{FOLDER}/programs/{'a' * 64}", b"x")
    assert f"take [minio] of {FOLDER}/config.toml" in bundle.other_store(host)
