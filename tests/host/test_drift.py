"""What somebody breaks by hand is shown by `plan` in plain words and mended by `install`; only what must restarts."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from mlflow_onprem_sandbox import Sandbox

from tests.host.conftest import HostFactory

pytestmark = pytest.mark.host

ETC = "/etc/mlflow-onprem"
STORE = "/opt/mlflow-onprem/object-store/current"
ENVIRONMENT = "/opt/mlflow-onprem/environments/current"
PYTHON = "/opt/mlflow-onprem/cli/bin/python -I -c"
SERVICES = ("minio", "postgres", "mlflow")
#: The store as its administrator sees it, for what no command line of this host can do.
ADMIN = """\
import json
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem.settings import credentials
from mlflow_onprem.clients.object_store import MinioStore
found = credentials.load_or_generate(LocalHost())
store = MinioStore("http://127.0.0.1:9000", found.minio_root_user, found.minio_root_password)
"""


def sql(statement: str, database: str = "postgres") -> str:
    return f'runuser -u postgres -- psql -qtA -d {database} -c "{statement}"'


def store(statement: str) -> str:
    return f"{PYTHON} '{ADMIN}{statement}'"


CLUSTER = "$(echo /etc/postgresql/*/main)"
UNIT = "$(systemctl list-units --plain --no-legend 'postgresql@*' | cut -d' ' -f1)"


@dataclass(frozen=True)
class Drift:
    """`shell` breaks something; each of `words` stands in the plan then; `restarted` may restart while it is mended, nothing else."""

    name: str
    shell: str
    words: tuple[str, ...]
    restarted: tuple[str, ...] = ()


CASES = (
    Drift(
        "edited unit", "sed -i s/^RestartSec=2/RestartSec=99/ /etc/systemd/system/mlflow.service", ("RestartSec=99", "systemd read it"), ("mlflow",)
    ),
    Drift("edited unit of the store", "sed -i /^User=/d /etc/systemd/system/minio.service", ("+User=minio", "systemd read it"), ("minio",)),
    Drift("deleted unit", "rm /etc/systemd/system/mlflow.service", ("+ file:/etc/systemd/system/mlflow.service",), ("mlflow",)),
    Drift("deleted drop-in of the store", "rm -r /etc/systemd/system/minio.service.d", ("+ file:/etc/systemd/system/minio.service.d",), ("minio",)),
    Drift(
        "deleted drop-in of PostgreSQL", f"rm -r /etc/systemd/system/{UNIT}.d && systemctl daemon-reload", ("+ file:/etc/systemd/system/postgresql@",)
    ),
    Drift("edited env file", f"sed -i s/^ONPREM_PORT=.*/ONPREM_PORT=5999/ {ETC}/mlflow.env", ("-ONPREM_PORT=5999", "+ONPREM_PORT=5000"), ("mlflow",)),
    Drift("deleted env file", f"rm {ETC}/mlflow.env", (f"+ file:{ETC}/mlflow.env",), ("mlflow",)),
    Drift("edited env file of the store", f"echo MINIO_BROWSER=off >> {ETC}/minio.env", ("-MINIO_BROWSER=off",), ("minio",)),
    Drift("deleted folder of secrets", f"rm -r {ETC}/mlflow", (f"+ directory:{ETC}/mlflow", "(secret)"), ("mlflow",)),
    Drift("another secret", f"echo other > {ETC}/mlflow/s3-credentials", ("s3-credentials", "(secret) -> (secret changed)"), ("mlflow",)),
    Drift("another root password", f"echo other > {ETC}/minio/root-password", ("root-password", "(secret) -> (secret changed)"), ("minio",)),
    Drift("a secret for all to read", f"chmod 0644 {ETC}/mlflow/admin-password", ("mode: 0644 -> 0600",)),
    Drift("credentials of another owner", f"chown mlflow:mlflow {ETC}/credentials.json", ("owner: mlflow -> root",)),
    Drift("data folder of another owner", "chown root:root /opt/minio/data", ("owner: root -> minio",)),
    Drift("state folder open", "chmod 0777 /var/lib/mlflow", ("mode: 0777 -> 0700",)),
    Drift("edited settings of PostgreSQL", f"echo max_connections=7 >> {CLUSTER}/conf.d/90-mlflow-onprem.conf", ("-max_connections=7",)),
    Drift("deleted settings of PostgreSQL", f"rm {CLUSTER}/conf.d/90-mlflow-onprem.conf", ("+ file:/etc/postgresql/",)),
    Drift(
        "settings of PostgreSQL in force", f"echo jit=on >> {CLUSTER}/conf.d/90-mlflow-onprem.conf; {sql('SELECT pg_reload_conf()')}", ("-jit=on",)
    ),
    Drift("pg_hba block removed", f"sed -i '/>>> mlflow-onprem/,/<<< mlflow-onprem/d' {CLUSTER}/pg_hba.conf", ("+ block:", "peer map=mlflow-onprem")),
    Drift("pg_hba block no longer first", f"sed -i '1i host all all 0.0.0.0/0 trust' {CLUSTER}/pg_hba.conf", ("block:", "pg_hba.conf")),
    Drift("pg_ident block removed", f"sed -i '/>>> mlflow-onprem/,/<<< mlflow-onprem/d' {CLUSTER}/pg_ident.conf", ("+ block:", "pg_ident.conf")),
    Drift("ALTER SYSTEM", sql("ALTER SYSTEM SET jit = on"), ("overridden by alter system: jit = on -> none",)),
    Drift(
        "ALTER SYSTEM in force",
        f"{sql('ALTER SYSTEM SET max_connections = 77')} && systemctl restart {UNIT}",
        ("overridden by alter system: max_connections = 77 -> none",),
        ("postgres",),
    ),
    Drift("role without login", sql("ALTER ROLE mlflow_user NOLOGIN"), ("login: no -> yes",)),
    Drift("role with power", sql("ALTER ROLE mlflow_user SUPERUSER"), ("superuser: yes -> no",)),
    Drift("another password of the role", sql("ALTER ROLE mlflow_user PASSWORD 'other'"), ("password: (secret) -> (secret changed)",)),
    Drift("another owner of the database", sql("ALTER DATABASE mlflow OWNER TO postgres"), ("owner: postgres -> mlflow_user",)),
    Drift("a database open to all", sql("GRANT CONNECT ON DATABASE mlflow TO PUBLIC"), ("open to public: yes -> no",)),
    # Copied first: a store on an overlay's lower layer cannot rename what lies there.
    Drift(
        "removed bucket",
        "cd /opt/minio/data && cp -a mlflow copy && rm -r mlflow && mv copy mlflow && " + store('store.remove_bucket("mlflow")'),
        ("+ bucket:mlflow",),
    ),
    Drift("deleted access key", store("store.remove_key(found.s3_access_key)"), ("+ access-key:",)),
    Drift(
        "dropped policy",
        store('store.remove_key(found.s3_access_key); store.add_key(found.s3_access_key, found.s3_secret_key, {"Version": "2012-10-17"})'),
        ("access-key:", "arn:aws:s3:::mlflow"),
    ),
    Drift("stopped", "systemctl stop mlflow", ("active: no -> yes",), ("mlflow",)),
    Drift("stopped store", "systemctl stop minio", ("active: no -> yes",), ("minio",)),
    Drift("stopped PostgreSQL", f"systemctl stop {UNIT}", ("active: no -> yes",), ("postgres", "mlflow")),
    Drift("disabled", "systemctl disable minio mlflow postgresql", ("enabled: no -> yes",)),
    Drift(
        "masked",
        "systemctl stop mlflow && ln -sf /dev/null /etc/systemd/system/mlflow.service && systemctl daemon-reload",
        ("service:mlflow.service", "active: no -> yes"),
        ("mlflow",),
    ),
    Drift(
        "masked PostgreSQL",
        f"systemctl mask --now {UNIT}",
        ("service:postgresql@", "enabled: no -> yes", "active: no -> yes"),
        ("postgres", "mlflow"),
    ),
    Drift(
        "truncated binary",
        f"cp {STORE}/minio /root/kept && head -c 4096 /root/kept > {STORE}/new && mv {STORE}/new {STORE}/minio",
        ("undamaged: no -> yes",),
        ("minio",),
    ),
    Drift("another program", f"ln -sfn elsewhere {STORE}", ("target: elsewhere ->",)),
    Drift("damaged environment", f"rm -r {ENVIRONMENT}/lib/python3*/site-packages/mlflow/server", ("undamaged: no -> yes",), ("mlflow",)),
    Drift(
        "account with a shell",
        "usermod --shell /bin/bash mlflow 2>/dev/null || sed -i '/^mlflow:/s#/usr/sbin/nologin#/bin/bash#' /etc/passwd",
        ("shell: /bin/bash",),
    ),
)


@pytest.fixture(scope="module")
def server(module_host: HostFactory) -> Sandbox:
    """One installed host for all of them: each is mended before the next."""
    return module_host()


def invocations(server: Sandbox) -> dict[str, str]:
    """systemd's word for one run of a service: it changes with every start."""
    units = ("minio.service", server.run(["sh", "-c", f"echo {UNIT}"]).out.strip() or "postgresql@15-main.service", "mlflow.service")
    shown = [server.run(["systemctl", "show", "-p", "InvocationID", "--value", unit]).out.strip() for unit in units]
    return dict(zip(SERVICES, shown, strict=True))


@pytest.mark.parametrize("drift", CASES, ids=[each.name for each in CASES])
def test_is_shown_by_plan_and_mended_by_install(server: Sandbox, drift: Drift) -> None:
    before = invocations(server)
    server.run(["bash", "-c", drift.shell])

    plan = server.run(["mlflow-onprem", "plan"], ok=(3,))
    missing = [word for word in drift.words if word not in plan.out]
    assert not missing, plan.out

    report = server.run(["mlflow-onprem", "install", "--json"], timeout=600)
    assert json.loads(report.out)["changed"]
    assert server.run(["mlflow-onprem", "plan"], ok=(0, 3)).out.startswith("No changes")
    assert json.loads(server.run(["mlflow-onprem", "status", "--json"], ok=(0, 4)).out)["healthy"]
    after = invocations(server)
    assert {name for name in SERVICES if after[name] != before[name]} <= set(drift.restarted)
