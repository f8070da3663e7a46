"""A whole fake machine, and the real stack of resources for it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow_onprem.clients.bucket_policy import bucket_policy
from mlflow_onprem.core import engine
from mlflow_onprem.core.engine import Stack
from mlflow_onprem.core.secret import Secret
from mlflow_onprem.resources.database import scram_matches
from mlflow_onprem.resources.services import Service
from mlflow_onprem.settings import credentials as credentials_module
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.credentials import Credentials
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.stack import build, inputs
from mlflow_onprem.stack.adopting import NOTHING, Adopting
from mlflow_onprem.stack.connections import Connections
from mlflow_onprem.stack.inputs import External
from mlflow_onprem.system.package_data import read
from mlflow_onprem.system.systemd import Systemd
from tests.fake_services import ETC, OURS, POSTGRES, FakeApt, FakePrograms, FakeSql, FakeStore, FakeSystemd, StoreData
from tests.fakes import Clock, FakeHost

FACTS = Facts(
    architecture="amd64",
    codename="bookworm",
    names=("server", "10.0.0.5"),
    cores=4,
    memory=8 << 30,
    python="/usr/bin/python3.11",
    postgres_version=15,
    postgres_shared=False,
)
#: Every secret can be told from every other text.
CREDENTIALS = Credentials(
    minio_root_user="root-test",
    minio_root_password=Secret("CANARY-minio-root"),
    s3_access_key="ACCESSKEYOFTESTS",
    s3_secret_key=Secret("CANARY-s3-secret"),
    postgres_password=Secret("CANARY-postgres"),
    mlflow_admin="admin",
    mlflow_admin_password=Secret("CANARY-admin"),
    flask_secret_key=Secret("CANARY-flask"),
    kek_passphrase=Secret("CANARY-kek"),
    webhook_key=Secret("CANARY-webhook"),
)


def with_secrets(**values: str) -> Credentials:
    """CREDENTIALS with other values for some of its secrets."""
    secrets: dict[str, Any] = {name: Secret(value) for name, value in values.items()}
    return dataclasses.replace(CREDENTIALS, **secrets)


PROGRAM = b"\x7fELF a server"
READS = {"find", "getent", "dpkg-query", "apt-cache", "journalctl", "uname", "hostname"}


def reads_only(argv: tuple[str, ...]) -> bool:
    """Whether a program changes nothing."""
    return argv[0] in READS or argv[:2] in (("systemctl", "show"), ("dpkg", "--audit")) or argv[1:2] == ("-c",)


def config(values: Mapping[str, Any] | None = None, *, program: Path | None = None) -> Config:
    """A configuration from a nested mapping; with `program` the store's program is that file."""
    merged: dict[str, Any] = {name: dict(section) for name, section in (values or {}).items()}
    if program is not None and merged.get("minio", {}).get("mode") != "external":
        where = {"url": str(program), "sha256": hashlib.sha256(program.read_bytes()).hexdigest()}
        merged["minio"] = {**where, **merged.get("minio", {})}
    return Config.model_validate(merged)


@dataclass
class Machine:
    """`tmp` holds what has to be real files: the store's program, the environment."""

    tmp: Path
    step: float = 0.001

    def __post_init__(self) -> None:
        self.tmp.mkdir(parents=True, exist_ok=True)
        self.program = self.tmp / "store-program"
        self.program.write_bytes(PROGRAM)
        self.host = FakeHost(backing=self.tmp / "host", clock=Clock(self.step), reads_only=reads_only)
        self.systemd = FakeSystemd(self.host)
        self.apt = FakeApt(self.host, self.systemd, {"python3.11"})
        self.sql = FakeSql(self.host, self.systemd)
        self.data = StoreData()
        self.heads = json.loads(read("locks/schemas.json"))["3.17.2"]
        programs = FakePrograms(self.host, self.sql, (self.heads["tracking"], self.heads["auth"]))
        self.host.programs = {
            "systemctl": self.systemd,
            "apt-get": self.apt.get,
            "dpkg": self.apt.dpkg,
            "dpkg-query": self.apt.query,
            "apt-cache": self.apt.cache,
            "pg_createcluster": self.apt.createcluster,
            "useradd": programs.useradd,
            "userdel": programs.userdel,
            "uv": programs.uv,
            "find": programs.find,
            "getent": programs.getent,
            "python": programs.python,
        }
        for path in ("/etc/passwd", "/etc/group"):
            self.host.put(path, "root:x:0:0:root:/root:/bin/bash\n")
        self.host.put("/usr/bin/python3.11", "", 0o755)

    def config(self, values: Mapping[str, Any] | None = None) -> Config:
        return config(values, program=self.program)

    def stack(
        self,
        wanted: Config,
        credentials: Credentials | None = None,
        facts: Facts = FACTS,
        *,
        side_by_side: bool = True,
        may_migrate: bool = False,
        adopting: Adopting = NOTHING,
    ) -> Stack:
        """What a new process would build. `side_by_side` off: one list, so that the order of acts is the same in every run."""
        found = credentials or credentials_module.load_or_generate(self.host)
        external: External = inputs.read(self.host, wanted)
        self.sql.local = wanted.postgres.mode == "local"
        access_key, secret_key = external.s3 or (found.minio_root_user, found.minio_root_password)
        store = FakeStore(self.host, self.data, access_key, secret_key, self.systemd if wanted.minio.mode == "local" else None)
        systemd = Systemd(self.host, ())
        made = build.build(wanted, found, facts, external, Connections(systemd, self.sql, store), "uv", adopting, may_migrate=may_migrate)
        units = {name for each in made if isinstance(each, Service) for name in (each.unit, each.boot_unit) if name}
        systemd.__init__(self.host, tuple(sorted({*units, POSTGRES})))  # type: ignore[misc]  # the units are known from the list only now
        return made if side_by_side else Stack(first=tuple(made))

    def converge(self, wanted: Config, credentials: Credentials | None = None) -> engine.Report:
        return engine.converge(self.host, self.stack(wanted, credentials, side_by_side=False))

    def changed(self, wanted: Config, credentials: Credentials | None = None) -> set[str]:
        """Names of what a run changes."""
        return {each.resource for each in self.converge(wanted, credentials).changed}

    def on_old_inputs(self) -> list[str]:
        """Services that do not run, or run on something other than what lies there now."""
        old = []
        for name in OURS:
            unit = self.systemd.unit(name)
            if not unit.packaged and f"/etc/systemd/system/{name}" not in self.host.nodes:
                continue
            # PostgreSQL belongs to others too: its unit is read again, not restarted.
            ran_on = unit.loaded if name == POSTGRES else unit.ran_on
            if not unit.active or dict(ran_on or {}) != dict(self.systemd.inputs(name)):
                old.append(name)
        if self.sql.local and self.sql.loaded != self.sql.on_disk():
            old.append("postgresql.conf")
        return old

    def state(self) -> dict[str, Any]:
        """The machine as it is, told without what differs from run to run: generated secrets, times, stamps of them."""
        text = self.host.read(credentials_module.PATH)
        values = json.loads(text) if text is not None else {}
        files = {}
        for path, (kind, content, mode, owner, group) in self.host.files().items():
            if path.startswith("/proc"):
                continue
            told = content
            if path.startswith("/var/lib/mlflow-onprem/stamps/") or path.endswith(("/manifest.json", "/environment.json", "/secret-dates.json")):
                told = b"(holds times)"
            if path == credentials_module.PATH:
                told = repr([name for name in values if name != "dates"]).encode()
            for name, value in values.items():
                if isinstance(value, str):
                    told = told.replace(value.encode(), f"<{name}>".encode())
            files[path] = (kind, told, f"{mode:04o}", owner, group)
        password = values.get("postgres_password", "")
        return {
            "files": files,
            "roles": {name: (*row[:3], scram_matches(row[3] or "", password)) for name, row in self.sql.roles.items()},
            "databases": {name: tuple(row) for name, row in self.sql.databases.items()},
            "revisions": dict(self.sql.revisions),
            "admins": set(self.sql.admins),
            "buckets": set(self.data.buckets),
            "keys": {
                key == values.get("s3_access_key"): (secret.reveal() == values.get("s3_secret_key"), policy == bucket_policy("mlflow"))
                for key, (secret, policy) in self.data.keys.items()
            },
            "units": {name: (unit.active, unit.enabled, unit.masked) for name, unit in self.systemd.units.items()},
            "packages": set(self.apt.installed),
            "accounts": self.host.nodes["/etc/passwd"].content,
        }


def external_files(host: FakeHost) -> None:
    """The files that a configuration with foreign services names."""
    host.put(f"{ETC}/external-s3", "[default]\naws_access_key_id = FOREIGNKEY\naws_secret_access_key = CANARY-foreign-s3\n", 0o600)
    host.put(f"{ETC}/external-postgres", "CANARY-foreign-postgres\n", 0o600)


EXTERNAL: dict[str, Any] = {
    "minio": {"mode": "external", "endpoint": "https://s3.example.com", "credentials_file": f"{ETC}/external-s3"},
    "postgres": {
        "mode": "external",
        "url": "postgresql://tracker@db.example.com:6432/tracking?sslmode=require",
        "password_file": f"{ETC}/external-postgres",
    },
}
