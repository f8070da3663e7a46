"""The lists of resources as values: the plan of an empty host for each kind of configuration, and what one changed line changes.

`MLFLOW_ONPREM_TEST_GOLDEN=write pytest tests/test_stages.py` writes tests/golden anew; read the difference before you commit it.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from pathlib import Path
from typing import Any

import pytest

from mlflow_onprem.core import engine
from mlflow_onprem.core.errors import ConfigError, NotVisible
from mlflow_onprem.core.resource import Phase
from mlflow_onprem.install import render
from mlflow_onprem.resources.files import File
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.stack import inputs, mlflow, mlflow_release
from mlflow_onprem.stack.adopting import Adopting
from mlflow_onprem.stack.inputs import External
from mlflow_onprem.system.package_data import read
from tests.fake_machine import CREDENTIALS, EXTERNAL, FACTS, Machine, config, external_files, with_secrets
from tests.fakes import FakeHost

GOLDEN = Path(__file__).parent / "golden"
OPEN = {"minio": {"bind": "0.0.0.0", "public_url": "http://s3.example.com:9000"}}
VARIANTS: dict[str, tuple[dict[str, Any], Facts]] = {
    "default": ({}, FACTS),
    "presigned": ({**OPEN, "mlflow": {"artifacts": "presigned"}}, FACTS),
    "direct": ({**OPEN, "mlflow": {"artifacts": "direct"}}, FACTS),
    "external": (EXTERNAL, FACTS),
    "no-accounts": ({"mlflow": {"auth": {"enabled": False}}}, FACTS),
    "networks": ({"postgres": {"allowed_networks": ["10.0.0.0/24", "fd00::/8"]}}, FACTS),
    "python-by-apt": ({}, dataclasses.replace(FACTS, python="apt")),
    "shared-cluster": ({}, dataclasses.replace(FACTS, postgres_shared=True)),
    "source": ({"minio": {"distribution": "source"}}, FACTS),
}


def plan_text(tmp_path: Path, values: dict[str, Any], facts: Facts) -> str:
    """The plan of an empty host, without what changes with every edit of the server's modules, and without our static units' text."""
    machine = Machine(tmp_path)
    external_files(machine.host)
    found = engine.plan(machine.host, machine.stack(config(values), CREDENTIALS, facts))
    text = render.plan_text(found) + "\n"
    text = re.sub(r"(environments/|target: |-> )3\.17\.2-[0-9a-f]{12}", r"\g<1>3.17.2-<lock>", text)
    text = re.sub(r"(mlflow-onprem/server/|^    digest: |^    target: )[0-9a-f]{12}$", r"\1<modules>", text, flags=re.MULTILINE)
    text = re.sub(r"(mlflow-onprem/server/)[0-9a-f]{12}", r"\1<modules>", text)
    text = re.sub(r"^(    lock: )[0-9a-f]{12}$", r"\1<lock>", text, flags=re.MULTILINE)
    for unit in ("minio.service", "mlflow.service"):
        text = text.replace("\n".join(f"      +{line}" for line in read(f"units/{unit}").splitlines()), f"      +<units/{unit}>")
    return text


@pytest.mark.parametrize("name", VARIANTS)
def test_the_plan_of_an_empty_host(name: str, tmp_path: Path) -> None:
    """The default's plan stands in whole, every other one as its difference from that."""
    values, facts = VARIANTS[name]
    text = plan_text(tmp_path / "this", values, facts)
    assert "CANARY" not in text
    if name != "default":
        default = plan_text(tmp_path / "default", *VARIANTS["default"])
        text = "\n".join(list(difflib.unified_diff(default.splitlines(), text.splitlines(), "default", name, lineterm="", n=1)))
        text = re.sub(r"^@@ .* @@$", "@@", text, flags=re.MULTILINE) + "\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("MLFLOW_ONPREM_TEST_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_resource_has_a_phase_and_they_come_in_order(name: str, tmp_path: Path) -> None:
    values, facts = VARIANTS[name]
    machine = Machine(tmp_path)
    external_files(machine.host)
    stack = machine.stack(config(values), CREDENTIALS, facts)
    assert [each.name for each in stack if each.phase is None] == []
    for lane in stack.lanes.values():
        phases = [each.phase for each in (*stack.first, *lane, *stack.last) if each.phase is not None]
        # An apt run that everybody waits for is what the first list ends with.
        assert phases == sorted(phases)
    assert tuple(stack.only(set(Phase))) == tuple(stack)


def test_what_is_built_beside_touches_nothing_in_use(tmp_path: Path) -> None:
    stack = Machine(tmp_path).stack(Config(), CREDENTIALS)
    beside = [each.name.partition(":")[0] for each in stack.only([Phase.BUILD])]
    assert set(beside) == {"user", "directory", "binary", "packages", "environment", "modules", "way"}
    assert [each.name for each in stack.only([Phase.BUILD]) if each.name.startswith("directory:") and "/opt/mlflow-onprem/" not in each.name] == []


def test_restore_converges_all_but_mlflow_itself(tmp_path: Path) -> None:
    stack = Machine(tmp_path).stack(Config(), CREDENTIALS)
    assert stack.only(Phase.DATA.and_before()) == dataclasses.replace(stack, last=())


def test_an_adoption_s_resources_come_where_they_have_to_happen(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    parts = {name: (File(f"/{name}", None),) for name in ("before", "store", "access", "tables", "done")}
    stack = machine.stack(Config(), CREDENTIALS, adopting=Adopting(**parts))
    names = [each.name for each in stack]

    def ahead(part: str) -> str:
        return names[names.index(f"file:/{part}") - 1]

    assert ahead("before") == "directory:/var/lib/mlflow-onprem"
    assert names.index("user:minio") < names.index("file:/store") < names.index("directory:/opt/minio/data")
    assert ahead("access").endswith("/pg_hba.conf")
    assert ahead("tables") == "schema:mlflow"
    assert ahead("done") == "service:mlflow.service"


#: One changed line, and every resource that a run then changes.
LINES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "mlflow.port": ({"mlflow": {"port": 5001}}, {"file:/etc/mlflow-onprem/mlflow.env", "service:mlflow.service"}),
    "mlflow.hosts": ({"mlflow": {"hosts": ["mlflow.example.com"]}}, {"file:/etc/mlflow-onprem/mlflow.env", "service:mlflow.service"}),
    "mlflow.webhook_hosts": ({"mlflow": {"webhook_hosts": ["mlflow.example.com"]}}, {"file:/etc/mlflow-onprem/mlflow.env", "service:mlflow.service"}),
    "mlflow.workers": ({"mlflow": {"workers": 2}}, {"file:/etc/mlflow-onprem/mlflow.env", "service:mlflow.service"}),
    "mlflow.auth.cache_seconds": (
        {"mlflow": {"auth": {"cache_seconds": 5}}},
        {"file:/etc/mlflow-onprem/mlflow/auth.ini", "service:mlflow.service"},
    ),
    "mlflow.extra_packages": (
        {"mlflow": {"extra_packages": ["some-plugin"]}},
        {"environment", "symlink:/opt/mlflow-onprem/environments/current", "service:mlflow.service"},
    ),
    "minio.bucket": (
        {"minio": {"bucket": "models"}},
        {"bucket:models", f"access-key:{CREDENTIALS.s3_access_key}", "file:/etc/mlflow-onprem/mlflow.env", "service:mlflow.service"},
    ),
    "minio.console_port": ({"minio": {"console_port": 9002}}, {"file:/etc/mlflow-onprem/minio.env", "service:minio.service"}),
    "minio.port": (
        {"minio": {"port": 9100}},
        {
            "file:/etc/mlflow-onprem/minio.env",
            "service:minio.service",
            "file:/etc/mlflow-onprem/mlflow.env",
            "service:mlflow.service",
        },
    ),
    "minio.bind": (
        {"minio": {"bind": "0.0.0.0"}},
        {
            "file:/etc/mlflow-onprem/minio.env",
            "file:/etc/systemd/system/minio.service.d/mlflow-onprem.conf",
            "service:minio.service",
        },
    ),
    "minio.console_bind": (
        {"minio": {"console_bind": "0.0.0.0"}},
        {
            "file:/etc/mlflow-onprem/minio.env",
            "file:/etc/systemd/system/minio.service.d/mlflow-onprem.conf",
            "service:minio.service",
        },
    ),
    "minio.data_dir": (
        {"minio": {"data_dir": "/srv/objects"}},
        {
            "directory:/srv/objects",
            "file:/var/lib/mlflow-onprem/object-store-founded",
            "file:/etc/mlflow-onprem/minio.env",
            "file:/etc/systemd/system/minio.service.d/mlflow-onprem.conf",
            "service:minio.service",
        },
    ),
    "postgres.allowed_networks": (
        {"postgres": {"allowed_networks": ["10.0.0.0/24"]}},
        {
            "file:/etc/postgresql/15/main/conf.d/90-mlflow-onprem.conf",
            "block:/etc/postgresql/15/main/pg_hba.conf",
            "settings:postgresql@15-main.service",
        },
    ),
    "postgres.port": (
        {"postgres": {"port": 5433}},
        {
            "file:/etc/postgresql/15/main/conf.d/90-mlflow-onprem.conf",
            "settings:postgresql@15-main.service",
            "file:/etc/mlflow-onprem/mlflow.env",
            "file:/etc/mlflow-onprem/mlflow/auth.ini",
            "service:mlflow.service",
        },
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_one_changed_line_changes_these_resources_and_no_others(line: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.converge(machine.config(), CREDENTIALS)
    starts = {name: unit.starts for name, unit in machine.systemd.units.items()}
    values, expected = LINES[line]
    wanted = machine.config(values)
    changed = {"environment" if each.startswith("environment:") else each for each in machine.changed(wanted)}
    assert changed == expected
    assert machine.on_old_inputs() == []
    restarted = {f"service:{name}" for name, unit in machine.systemd.units.items() if unit.starts != starts.get(name, 0)}
    assert {each for each in restarted if not each.startswith("service:postgresql")} == {each for each in expected if each.startswith("service:")}


@pytest.mark.parametrize(
    ("secret", "services"),
    [
        ("minio_root_password", {"minio.service"}),
        ("s3_secret_key", {"mlflow.service"}),
        ("postgres_password", set()),
        ("mlflow_admin_password", set()),
        ("flask_secret_key", {"mlflow.service"}),
        ("kek_passphrase", {"mlflow.service"}),
        ("webhook_key", {"mlflow.service"}),
    ],
)
def test_a_new_secret_is_taken_up_by_exactly_the_services_that_use_it(secret: str, services: set[str], tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.converge(machine.config(), CREDENTIALS)
    before = {name: (unit.starts, unit.reloads) for name, unit in machine.systemd.units.items()}
    machine.converge(machine.config(), with_secrets(**{secret: "another value"}))
    assert {name for name, unit in machine.systemd.units.items() if (unit.starts, unit.reloads) != before[name]} == services
    assert machine.on_old_inputs() == []


@pytest.mark.parametrize("name", [*VARIANTS, "python-by-uv"])
def test_every_variant_converges_and_then_has_nothing_to_change(name: str, tmp_path: Path) -> None:
    values, facts = {**VARIANTS, "python-by-uv": ({}, dataclasses.replace(FACTS, python="3.11"))}[name]
    machine = Machine(tmp_path)
    external_files(machine.host)
    wanted = config(values, program=machine.program) if name != "source" else machine.config()
    if wanted.postgres.mode == "external":
        machine.sql.databases["tracking"] = ["tracker", True]
    engine.converge(machine.host, machine.stack(wanted, facts=facts))
    assert engine.plan(machine.host, machine.stack(wanted, facts=facts)).changes == ()
    assert [each for each in machine.on_old_inputs() if wanted.postgres.mode == "local" or "postgres" not in each] == []


# parts ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cores", "gibibytes", "least", "most"),
    [(1, 1, 1, 1), (1, 4, 1, 2), (2, 2, 1, 2), (4, 8, 2, 4), (64, 256, 4, 8)],
)
def test_workers_fit_the_host(cores: int, gibibytes: int, least: int, most: int) -> None:
    facts = dataclasses.replace(FACTS, cores=cores, memory=gibibytes << 30)
    assert least <= mlflow.workers(Config(), facts) <= most
    assert mlflow.workers(config({"mlflow": {"workers": 7}}), facts) == 7


def test_where_clients_find_an_open_store() -> None:
    assert mlflow.public_store_url(config(OPEN), FACTS) == "http://s3.example.com:9000"
    assert mlflow.public_store_url(config({"minio": {"bind": "0.0.0.0"}}), FACTS) == "http://10.0.0.5:9000"
    assert mlflow.public_store_url(config(EXTERNAL), FACTS) == "https://s3.example.com"


def test_a_version_without_a_lock_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"9\.9\.9 is not one this release carries") as caught:
        mlflow_release.lock("9.9.9")
    assert "3.17.2" in caught.value.hint


@pytest.mark.parametrize(("memory", "buffers"), [(1 << 30, "128MB"), (8 << 30, "1024MB"), (256 << 30, "4096MB")])
def test_the_databases_memory_is_sized_from_the_host(memory: int, buffers: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    text = plan_text_of_settings(machine, dataclasses.replace(FACTS, memory=memory))
    assert f"shared_buffers = '{buffers}'" in text


def plan_text_of_settings(machine: Machine, facts: Facts) -> str:
    [conf] = [each for each in machine.stack(Config(), CREDENTIALS, facts) if each.name.endswith("conf.d/90-mlflow-onprem.conf")]
    return str(conf.want.content.value)


def test_a_cluster_that_served_others_keeps_its_memory_and_addresses(tmp_path: Path) -> None:
    text = plan_text_of_settings(Machine(tmp_path), dataclasses.replace(FACTS, postgres_shared=True))
    assert "shared_buffers" not in text
    assert "listen_addresses" not in text


def test_the_lines_of_pg_hba_let_the_role_in_by_these_ways_alone(tmp_path: Path) -> None:
    wanted = config({"postgres": {"allowed_networks": ["10.0.0.0/24"]}})
    [block] = [each for each in Machine(tmp_path).stack(wanted, CREDENTIALS) if each.name.endswith("pg_hba.conf")]
    rows = [line.split() for line in block.want.content.value.splitlines()]
    assert [(row[0], row[-1]) for row in rows if row[-1] == "reject"] == [("local", "reject"), ("host", "reject")]
    assert [row[3] for row in rows if row[-1] == "scram-sha-256"] == ["127.0.0.1/32", "::1/128", "10.0.0.0/24"]
    assert [row for row in rows if row[2] != "mlflow_user"] == [["local", "all", "postgres", "peer"]], "nobody else's way in changes"
    shared = dataclasses.replace(FACTS, postgres_shared=True)
    [block] = [each for each in Machine(tmp_path / "shared").stack(wanted, CREDENTIALS, shared) if each.name.endswith("pg_hba.conf")]
    assert all(line.split()[2] == "mlflow_user" for line in block.want.content.value.splitlines()), "its administrator is its owner's"
    assert "trust" not in block.want.content.value


@pytest.mark.parametrize(
    ("bind", "console_bind", "addresses", "alone"),
    [
        ("127.0.0.1", "127.0.0.1", ("127.0.0.1:9000", "127.0.0.1:9001"), True),
        ("0.0.0.0", "127.0.0.1", ("0.0.0.0:9000", "127.0.0.1:9001"), False),
        ("127.0.0.1", "::", ("127.0.0.1:9000", "[::]:9001"), False),
    ],
)
def test_the_console_is_opened_by_its_own_setting_alone(
    bind: str, console_bind: str, addresses: tuple[str, str], alone: bool, tmp_path: Path
) -> None:
    wanted = config({"minio": {"bind": bind, "console_bind": console_bind}})
    named = ("file:/etc/mlflow-onprem/minio.env", "file:/etc/systemd/system/minio.service.d/mlflow-onprem.conf")
    files = {each.name: each.want.content.value for each in Machine(tmp_path).stack(wanted, CREDENTIALS) if each.name in named}
    assert "--address {} --console-address {}".format(*addresses) in files["file:/etc/mlflow-onprem/minio.env"]
    assert ("IPAddressDeny=any" in files["file:/etc/systemd/system/minio.service.d/mlflow-onprem.conf"]) is alone


# files of the user's own -----------------------------------------------------------------------------------------------


def test_external_secrets_come_from_their_files() -> None:
    host = FakeHost()
    external_files(host)
    found = inputs.read(host, config(EXTERNAL))
    assert found.s3 is not None
    assert found.s3[0] == "FOREIGNKEY"
    assert "CANARY" not in repr(found)
    assert inputs.read(host, Config()) == External()


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("/etc/mlflow-onprem/external-s3", None, r"minio\.credentials_file: there is no file /etc/mlflow-onprem/external-s3"),
        ("/etc/mlflow-onprem/external-s3", "nonsense CANARY", "is not an AWS shared credentials file"),
        ("/etc/mlflow-onprem/external-s3", "[default]\naws_access_key_id = A\n", "is not an AWS shared credentials file"),
        ("/etc/mlflow-onprem/external-postgres", None, r"postgres\.password_file: there is no file"),
        ("/etc/mlflow-onprem/external-postgres", "", "must hold the password on one line"),
        ("/etc/mlflow-onprem/external-postgres", "CANARY\nCANARY\n", "must hold the password on one line"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name_without_its_content(path: str, content: str | None, message: str) -> None:
    host = FakeHost()
    external_files(host)
    host.remove(path)
    if content is not None:
        host.put(path, content)
    with pytest.raises(ConfigError, match=message) as caught:
        inputs.read(host, config(EXTERNAL))
    assert "CANARY" not in f"{caught.value.message} {caught.value.hint} {caught.value.output}"


def test_other_users_may_not_look_into_them() -> None:
    host = FakeHost(is_root=False, deny={"/etc/mlflow-onprem/external-s3"})
    external_files(host)
    with pytest.raises(NotVisible):
        inputs.read(host, config(EXTERNAL))
