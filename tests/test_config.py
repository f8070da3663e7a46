"""The configuration: its defaults, where values come from, and every refusal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlflow_onprem.core.errors import ConfigError, ExitCode
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.config_file import DEFAULT_PATH, Loaded, known_keys, load, value_of
from mlflow_onprem.system.package_data import read

SHA = "a" * 64


def loaded(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load(str(path), environ or {})


def refusal(tmp_path: Path, text: str, environ: Mapping[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, environ)
    assert (caught.value.exit_code, int(caught.value.exit_code)) == (ExitCode.USAGE, 2)
    return caught.value


# the example ---------------------------------------------------------------------------------------------------------


def test_the_example_is_the_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, read("config.example.toml")).config == Config()


def test_the_example_names_every_setting_in_its_section() -> None:
    section, named = "", set()
    for line in read("config.example.toml").splitlines():
        text = line.removeprefix("# ")
        if line.startswith("["):
            section = line.strip("[]")
        elif " = " in text and text.partition(" = ")[0].isidentifier():
            named.add(f"{section}.{text.partition(' = ')[0]}")
    assert named == set(known_keys())


def test_the_contracts_defaults() -> None:
    config = Config()
    assert (config.minio.mode, config.minio.distribution, config.minio.bind, config.minio.port, config.minio.console_port) == (
        "local",
        "silo",
        "127.0.0.1",
        9000,
        9001,
    )
    assert (config.minio.data_dir, config.minio.bucket) == ("/opt/minio/data", "mlflow")
    assert (config.postgres.port, config.postgres.database, config.postgres.user, config.postgres.allowed_networks) == (
        5432,
        "mlflow",
        "mlflow_user",
        (),
    )
    assert (config.mlflow.bind, config.mlflow.port, config.mlflow.python, config.mlflow.artifacts) == ("0.0.0.0", 5000, "auto", "proxied")
    assert (config.mlflow.workers, config.mlflow.jobs, config.mlflow.auth.enabled) == ("auto", False, True)


# where values come from ----------------------------------------------------------------------------------------------


def test_a_missing_file_is_all_defaults_where_nobody_named_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no configuration at") as caught:
        load(str(tmp_path / "none.toml"), {})
    assert "config init" in caught.value.hint
    if not Path(DEFAULT_PATH).exists():
        assert load(None, {}).config == Config()


def test_a_variable_goes_before_the_file_and_each_value_knows_its_source(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        '[mlflow]\nport = 5001\nworkers = 2\n[mlflow.auth]\ncache_seconds = 1\n[postgres]\nuser = "someone"\n',
        {"MLFLOW_ONPREM_MLFLOW__PORT": "5002", "MLFLOW_ONPREM_MLFLOW__AUTH__ENABLED": "false", "HOME": "/root"},
    )
    assert (found.config.mlflow.port, found.config.mlflow.workers, found.config.mlflow.auth.enabled) == (5002, 2, False)
    path = str(tmp_path / "config.toml")
    assert found.sources == {
        "mlflow.port": "MLFLOW_ONPREM_MLFLOW__PORT",
        "mlflow.workers": path,
        "mlflow.auth.cache_seconds": path,
        "mlflow.auth.enabled": "MLFLOW_ONPREM_MLFLOW__AUTH__ENABLED",
        "postgres.user": path,
    }


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("MLFLOW__PYTHON", "3.10", "mlflow.python", "3.10"),
        ("MLFLOW__VERSION", "3.17.2", "mlflow.version", "3.17.2"),
        ("MLFLOW__WORKERS", "3", "mlflow.workers", 3),
        ("MLFLOW__WORKERS", "auto", "mlflow.workers", "auto"),
        ("MINIO__BIND", "0.0.0.0", "minio.bind", "0.0.0.0"),
        ("MINIO__BUCKET", '"models"', "minio.bucket", "models"),
        ("MLFLOW__HOSTS", '["a.example", "b.example"]', "mlflow.hosts", ("a.example", "b.example")),
        ("POSTGRES__ALLOWED_NETWORKS", '["10.0.0.0/8"]', "postgres.allowed_networks", ("10.0.0.0/8",)),
        ("MLFLOW__JOBS", "true", "mlflow.jobs", True),
        ("MINIO__PORT", "9100", "minio.port", 9100),
        ("MLFLOW__AUTH__CACHE_SECONDS", "0", "mlflow.auth.cache_seconds", 0),
        ("POSTGRES__ALLOWED_NETWORKS", "['10.0.0.0/8']", "postgres.allowed_networks", ("10.0.0.0/8",)),
    ],
)
def test_a_variable_is_read_as_a_person_means_it(name: str, text: str, key: str, value: object, tmp_path: Path) -> None:
    assert value_of(loaded(tmp_path, "", {f"MLFLOW_ONPREM_{name}": text}).config, key) == value


def test_a_variable_that_names_nothing_is_refused_with_the_nearest(tmp_path: Path) -> None:
    refused = refusal(tmp_path, "", {"MLFLOW_ONPREM_MLFLOW__PROT": "5001"})
    assert refused.message == "environment variable MLFLOW_ONPREM_MLFLOW__PROT names no setting"
    assert refused.hint == "did you mean MLFLOW_ONPREM_MLFLOW__PORT?"
    assert refusal(tmp_path, "", {"MLFLOW_ONPREM_MINOI__PORT": "9100"}).hint == "did you mean MLFLOW_ONPREM_MINIO__PORT?"
    assert refusal(tmp_path, "", {"MLFLOW_ONPREM_MINIO": '{"port": 9100}'}).message == "environment variable MLFLOW_ONPREM_MINIO names no setting"
    assert loaded(tmp_path, "", {"MLFLOW_ONPREM_TEST_ANYTHING": "1", "_MLFLOW_ONPREM_COMPLETE": "bash"}).sources == {}


@pytest.mark.parametrize("key", sorted(known_keys()))
def test_a_variable_of_the_old_form_is_refused_with_its_new_name(key: str, tmp_path: Path) -> None:
    refused = refusal(tmp_path, "", {f"MLFLOW_ONPREM_{key.replace('.', '_').upper()}": "1"})
    assert refused.hint == f"its name is now MLFLOW_ONPREM_{key.replace('.', '__').upper()}"


@pytest.mark.parametrize("text", ["0", "65536", "high", '"9100"', "", "true", "9100.0", "[9100]"])
def test_a_port_by_a_variable_is_checked(text: str, tmp_path: Path) -> None:
    assert "minio.port (MLFLOW_ONPREM_MINIO__PORT): must be" in refusal(tmp_path, "", {"MLFLOW_ONPREM_MINIO__PORT": text}).message


def test_a_list_by_a_variable_that_is_none_is_refused_in_plain_words(tmp_path: Path) -> None:
    refused = refusal(tmp_path, "", {"MLFLOW_ONPREM_MLFLOW__HOSTS": "a.example"})
    assert refused.message.startswith("mlflow.hosts (MLFLOW_ONPREM_MLFLOW__HOSTS): must be a valid")


def test_what_is_read_is_a_configuration_and_no_more(tmp_path: Path) -> None:
    """Equal to one made otherwise, and the environment of the process has no say in that one."""
    assert type(loaded(tmp_path, "[mlflow]\nport = 5001\n", {"MLFLOW_ONPREM_MINIO__PORT": "9100"}).config) is Config


def test_a_file_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="it is neither a regular file nor a pipe"):
        load("/dev/null", {})


def test_a_pipe_is_read() -> None:
    """As a shell's <(...) hands it over."""
    read, write = os.pipe()
    os.write(write, b"[minio]\nport = 9100\n")
    os.close(write)
    try:
        assert load(f"/dev/fd/{read}", {}).config.minio.port == 9100
    finally:
        os.close(read)


def test_a_wrong_variable_is_named_beside_its_setting(tmp_path: Path) -> None:
    assert "mlflow.port (MLFLOW_ONPREM_MLFLOW__PORT)" in refusal(tmp_path, "", {"MLFLOW_ONPREM_MLFLOW__PORT": "high"}).message


def test_the_hint_names_what_is_to_be_fixed(tmp_path: Path) -> None:
    """The file, the variable, or both where they do not go together."""
    high = {"MLFLOW_ONPREM_MLFLOW__PORT": "high"}
    assert refusal(tmp_path, "", high).hint == "correct or unset MLFLOW_ONPREM_MLFLOW__PORT"
    assert refusal(tmp_path, "[minio]\nport = 0").hint.startswith(f"fix {tmp_path}/config.toml (`mlflow-onprem config init --config ./")
    for text, port in (("[minio]\nport = 0", "high"), ("[minio]\nport = 5001", "5001")):
        hint = refusal(tmp_path, text, {"MLFLOW_ONPREM_MLFLOW__PORT": port}).hint
        assert hint.startswith("fix "), hint
        assert hint.endswith("; correct or unset MLFLOW_ONPREM_MLFLOW__PORT"), hint


def test_a_path_that_is_an_unset_variable() -> None:
    with pytest.raises(ConfigError, match="--config names no file"):
        load("", {})


# refusals ------------------------------------------------------------------------------------------------------------

REFUSED = {
    "an unknown setting": ("[mlflow]\nprot = 5000", "mlflow.prot is not a setting; did you mean mlflow.port?"),
    "an unknown section": ("[postgress]\nport = 1", "postgress is not a setting; did you mean postgres?"),
    "an unknown setting of a section in a section": ("[mlflow.auth]\nenable = true", "did you mean mlflow.auth.enabled?"),
    "a section that is a value": ("minio = 3", "minio: "),
    "a port out of range": ("[mlflow]\nport = 70000", "mlflow.port: must be less than or equal to 65535"),
    "a port that is text": ('[mlflow]\nport = "high"', "mlflow.port: must be a valid integer"),
    "a port that is a number in quotes": ('[mlflow]\nport = "5000"', "mlflow.port: must be a valid integer"),
    "a port that is a truth": ("[mlflow]\nport = true", "mlflow.port: must be a valid integer"),
    "workers that are a truth": ("[mlflow]\nworkers = true", "mlflow.workers: "),
    "ports that collide": ("[mlflow]\nport = 9000", "minio.port and mlflow.port are both 9000"),
    "ports of one section that collide": ("[minio]\nconsole_port = 9000", "minio.port and minio.console_port are both 9000"),
    "an address without a mask": (
        '[postgres]\nallowed_networks = ["10.0.0.5"]',
        "postgres.allowed_networks: must be a network in CIDR form, such as 10.0.0.5/32",
    ),
    "an address within a network": ('[postgres]\nallowed_networks = ["10.0.0.5/24"]', "postgres.allowed_networks: 10.0.0.5/24 has host bits set"),
    "no network at all": ('[postgres]\nallowed_networks = ["all/0"]', "postgres.allowed_networks: "),
    "a bucket in capitals": ('[minio]\nbucket = "MLflow"', "minio.bucket: must be an S3 bucket name"),
    "a bucket too short": ('[minio]\nbucket = "ab"', "minio.bucket: must be an S3 bucket name"),
    "a bucket like an address": ('[minio]\nbucket = "10.0.0.1"', "minio.bucket: must be an S3 bucket name"),
    "a bucket with two dots": ('[minio]\nbucket = "a..b"', "minio.bucket: must be an S3 bucket name"),
    "a relative path": ('[minio]\ndata_dir = "data"', "minio.data_dir: must be an absolute path"),
    "a path with a space": ('[minio]\ndata_dir = "/srv/my data"', "minio.data_dir: may hold letters"),
    "a path upwards": ('[minio]\ndata_dir = "/srv/../etc"', "minio.data_dir: may hold letters"),
    "a specifier of systemd": ('[minio]\ndata_dir = "/srv/%h"', "minio.data_dir: may hold letters"),
    "a folder of the system": ('[minio]\ndata_dir = "/etc/"', "minio.data_dir: must be a folder of its own"),
    "a relative volume": ('[minio]\nvolumes = ["disk{1...4}"]', "minio.volumes: must be an absolute path or http"),
    "a bind that is a name": ('[mlflow]\nbind = "localhost"', "mlflow.bind: "),
    "a url with a password": (f'[minio]\nurl = "https://me:pw@mirror.example/minio"\nsha256 = "{SHA}"', "minio.url: has a password in it"),
    "a url without a sum": ('[minio]\nurl = "https://mirror.example/minio"', "minio: url needs sha256"),
    "a url of another kind": (f'[minio]\nurl = "ftp://mirror.example/minio"\nsha256 = "{SHA}"', "minio.url: must be http(s)://"),
    "a sum too short": ('[minio]\nurl = "/minio"\nsha256 = "abc"', "minio.sha256: "),
    "an unknown distribution": ('[minio]\ndistribution = "ceph"', "minio.distribution: must be 'silo', 'minio' or 'source'"),
    "an external store without its files": ('[minio]\nmode = "external"', 'minio: mode = "external" needs endpoint and credentials_file'),
    "an endpoint of a local store": ('[minio]\nendpoint = "http://s3.example"', 'minio: endpoint and credentials_file go with mode = "external"'),
    "an endpoint without a scheme": (
        '[minio]\nmode = "external"\nendpoint = "s3.example:9000"\ncredentials_file = "/x/y"',
        "minio.endpoint: must be http://host:port",
    ),
    "an endpoint with a port that is none": (
        '[minio]\nmode = "external"\nendpoint = "http://s3.example:99999"\ncredentials_file = "/x/y"',
        "minio.endpoint: Port out of range",
    ),
    "an external database without its files": ('[postgres]\nmode = "external"', 'postgres: mode = "external" needs url'),
    "an external database's url with a password": (
        '[postgres]\nmode = "external"\nurl = "postgresql://u:pw@db/mlflow"\npassword_file = "/x/y"',
        "postgres.url: has a password in it",
    ),
    "a password behind the question mark": (
        '[postgres]\nmode = "external"\nurl = "postgresql://u@db/mlflow?sslmode=require&password=pw"\npassword_file = "/x/y"',
        "postgres.url: has a password in it",
    ),
    "an external database's url without a user": (
        '[postgres]\nmode = "external"\nurl = "postgresql://db/mlflow"\npassword_file = "/x/y"',
        "postgres: url must be postgresql://user@host:5432/database",
    ),
    "an external database's port that is none": (
        '[postgres]\nmode = "external"\nurl = "postgresql://u@db:99999/mlflow"\npassword_file = "/x/y"',
        "postgres: Port out of range",
    ),
    "a url of a local database": ('[postgres]\nurl = "postgresql://u@db/mlflow"', 'postgres: url and password_file go with mode = "external"'),
    "a database in capitals": ('[postgres]\ndatabase = "MLflow"', "postgres.database: must be a plain PostgreSQL name"),
    "PostgreSQL's own role": ('[postgres]\nuser = "postgres"', "postgres.user: must be a plain PostgreSQL name"),
    "a name of PostgreSQL's": ('[postgres]\nuser = "pg_monitor"', "postgres.user: must be a plain PostgreSQL name"),
    "one database for both": ('[postgres]\ndatabase = "mlflow_auth"', "mlflow.auth.database must differ from postgres.database"),
    "a version of Python we have no lock for": ('[mlflow]\npython = "3.9"', "mlflow.python: must be 'auto', '3.10'"),
    "a version that is none": ('[mlflow]\nversion = "latest"', "mlflow.version: "),
    "a host with a scheme": ('[mlflow]\nhosts = ["http://mlflow.example"]', "mlflow.hosts: must be a host name"),
    "a host with a wildcard": ('[mlflow]\nhosts = ["*"]', "mlflow.hosts: must be a host name"),
    "a suffix without its star": ('[mlflow]\nhosts = [".example.com"]', "mlflow.hosts: must be *.example.com"),
    "a range of addresses": ('[mlflow]\nhosts = ["10.0.0.0/8"]', "mlflow.hosts: is a range of addresses: leave it out"),
    "a receiver with a path": (
        '[mlflow]\nwebhook_hosts = ["https://chat.example/hook"]',
        "mlflow.webhook_hosts: must be one receiver without a path",
    ),
    "a receiver by another scheme": ('[mlflow]\nwebhook_hosts = ["ftp://chat.example"]', "mlflow.webhook_hosts: must be one receiver"),
    "a host with a port that is none": ('[mlflow]\nhosts = ["mlflow.example:70000"]', "mlflow.hosts: must be a host name"),
    "an origin without a scheme": ('[mlflow]\norigins = ["app.example"]', "mlflow.origins: must be the site as a browser shows it"),
    "an origin with a path": ('[mlflow]\norigins = ["https://app.example/x"]', "mlflow.origins: must be the site as a browser shows it"),
    "no workers": ("[mlflow]\nworkers = 0", "mlflow.workers: "),
    "an option as a package": ('[mlflow]\nextra_packages = ["--index-url=http://x"]', "mlflow.extra_packages: "),
    "presigned artifacts of a closed store": (
        '[mlflow]\nartifacts = "presigned"',
        'mlflow.artifacts = "presigned" sends clients to the store themselves',
    ),
    "direct artifacts of a closed store": ('[mlflow]\nartifacts = "direct"', "set minio.bind to an address they reach"),
    "another artifacts mode": ('[mlflow]\nartifacts = "s3"', "mlflow.artifacts: must be 'proxied', 'presigned' or 'direct'"),
    "text that is no TOML": ("[mlflow\nport = 1", "is not valid TOML"),
    "text without quotes": ("[mlflow]\npython = three", "is not valid TOML"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    text, says = REFUSED[name]
    refused = refusal(tmp_path, text)
    assert says in refused.message
    assert refused.hint
    assert "pw@" not in f"{refused.message}{refused.hint}"
    assert "password=pw" not in f"{refused.message}{refused.hint}"


@pytest.mark.parametrize(
    "key", ["password", "minio.secret_key_secret", "mlflow.admin_password", "minio.access_key", "mlflow.auth.token", "x.passphrase"]
)
def test_what_looks_like_a_secret_is_refused_without_its_value(key: str, tmp_path: Path) -> None:
    section, _, name = key.rpartition(".")
    refused = refusal(tmp_path, (f"[{section}]\n" if section else "") + f'{name} = "hunter2"')
    assert f"{key} in {tmp_path}/config.toml looks like a secret" in refused.message
    assert "credentials.json" in refused.hint
    assert "hunter2" not in f"{refused.message}{refused.hint}{refused.output}"


def test_a_value_in_place_of_a_section_is_no_traceback_with_a_variable_either(tmp_path: Path) -> None:
    refused = refusal(tmp_path, "minio = 3", {"MLFLOW_ONPREM_MINIO__PORT": "9100"})
    assert "minio in" in refused.message


def test_several_wrong_settings_are_told_at_once(tmp_path: Path) -> None:
    refused = refusal(tmp_path, '[mlflow]\nport = 0\n[minio]\nbucket = "X"\n')
    assert [line.partition(":")[0] for line in refused.message.splitlines()] == ["minio.bucket", "mlflow.port"]


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load(str(tmp_path / "c.toml"), {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(str(tmp_path), {})


ACCEPTED = {
    "several drives": '[minio]\nvolumes = ["/mnt/disk{1...4}"]',
    "several hosts": '[minio]\nbind = "0.0.0.0"\nvolumes = ["http://host{1...4}:9000/data"]',
    "IPv6": '[minio]\nbind = "::1"\n[mlflow]\nbind = "::"\n[postgres]\nallowed_networks = ["fd00::/8"]',
    "a port of an external service": '[minio]\nmode = "external"\nendpoint = "https://s3.example:5000"\ncredentials_file = "/x/y"',
    "presigned artifacts of a foreign store": '[minio]\nmode = "external"\nendpoint = "https://s3.example"\ncredentials_file = "/x/y"\n'
    '[mlflow]\nartifacts = "presigned"',
    "a file of one's own": f'[minio]\nurl = "file:///srv/minio.tar.gz"\nsha256 = "{SHA}"',
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, ACCEPTED[name]).config != Config()
