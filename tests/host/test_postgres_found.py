"""PostgreSQL as it is found: clusters of any name, port and locale, in any state; and the roles of people in MLflow's database."""

from __future__ import annotations

import json

import pytest
from mlflow_onprem_sandbox import Sandbox, product

from tests.host import steps
from tests.host.conftest import HostFactory
from tests.host.steps import ANY

pytestmark = pytest.mark.host
MAIN = "/etc/postgresql/15/main"
NOTE = "/var/lib/mlflow-onprem/postgres-cluster"


@pytest.fixture(scope="module")
def server(module_host: HostFactory) -> Sandbox:
    """An installed host, which the tests of this file change one after the other."""
    return module_host()


def sh(server: Sandbox, script: str) -> str:
    return server.run(["sh", "-ec", script], timeout=600).out


def refused(server: Sandbox) -> str:
    """An install that ends in preflight; what it says on one line."""
    result = steps.attempt(server)
    assert result.code == 1, result
    assert "Traceback" not in result.err
    return " ".join(result.err.split())


def dropped(server: Sandbox) -> None:
    """No cluster and no memory of one, as on a host that has only PostgreSQL's packages."""
    sh(server, "systemctl stop mlflow; pg_lsclusters -h | while read v c rest; do pg_dropcluster --stop $v $c; done")
    sh(server, f"rm -rf {NOTE} /etc/postgresql/15 && mkdir -p /etc/postgresql/15; systemctl daemon-reload")


def as_pg_lsclusters_says(server: Sandbox) -> None:
    """Our own reading of the clusters' files against Debian's."""
    said = json.loads(server.run(["pg_lsclusters", "--json"]).out)
    program = (
        "import json; from mlflow_onprem.system import clusters; from mlflow_onprem.system.local_host import LocalHost; "
        "print(json.dumps([[c.version, c.name, str(c.port), c.data, c.start, c.log] for c in clusters.every(LocalHost())]))"
    )
    ours = json.loads(server.run(["/opt/mlflow-onprem/cli/bin/python", "-I", "-c", program]).out)
    wanted = [[each[key] for key in ("version", "cluster", "port", "pgdata", "start", "logfile")] for each in said]
    assert sorted(ours) == sorted(wanted)


@pytest.mark.long  # not seen green since the modules moved
def test_people_read_mlflows_tables_and_nothing_else(server: Sandbox) -> None:
    config = server.read(product.CONFIG).decode()
    steps.install(server, f'{config}\n[postgres]\nallowed_networks = ["{server.address}/32"]\n')
    made = json.loads(server.run(["mlflow-onprem", "db-role", "add", "grafana", "--read-only", "--json"]).out)
    asked = server.run(["mlflow-onprem", "db-role", "add", "team_bi", "--ask"], stdin="a password of my own\n").out
    assert "a password of my own" not in asked
    [listed, _] = json.loads(server.run(["mlflow-onprem", "db-role", "list", "--json"]).out)["roles"]
    assert listed == {key: value for key, value in made.items() if key not in ("schema", "command", "password")}

    def ask(role: str, statement: str, *, password: str, database: str = "mlflow", host: str = "", tls: str = "require") -> tuple[int, str]:
        where = f"host={host or server.address} port=5432 dbname={database} user={role} sslmode={tls}"
        result = server.run(["psql", where, "-qtAc", statement], env={"PGPASSWORD": password}, ok=ANY)
        return result.code, f"{result.out}{result.err}"

    def grafana(statement: str, **more: str) -> tuple[int, str]:
        return ask("grafana", statement, password=made["password"], **more)

    assert grafana("SELECT count(*) FROM experiments")[1].strip().isdigit()
    assert "permission denied" in grafana("DELETE FROM experiments")[1]
    assert "permission denied" in grafana("CREATE TABLE public.mine (id int)")[1]
    assert "rejects" in grafana("SELECT 1", database="mlflow_auth")[1]
    assert "rejects" in grafana("SELECT 1", database="postgres")[1]
    assert grafana("SELECT 1", tls="disable")[0] != 0, "from the network by TLS alone"
    assert grafana("SELECT 1", tls="disable", host="127.0.0.1") == (0, "1\n")
    assert ask("team_bi", "INSERT INTO experiment_tags VALUES ('k', 'v', 0) RETURNING 1", password="a password of my own")[1].strip() == "1"
    # Tables that MLflow makes later are covered, and more rights than meant are drift.
    steps.psql(server, "SET ROLE mlflow_user; CREATE TABLE later (id int)", "mlflow")
    assert grafana("SELECT count(*) FROM later") == (0, "0\n")
    steps.psql(server, "DROP TABLE later; GRANT DELETE ON runs TO grafana", "mlflow")
    assert [each["resource"] for each in steps.plan(server)[1]["changes"]] == ["db-role:grafana"]
    assert steps.install(server)["changed"] == ["db-role:grafana"]
    new = json.loads(server.run(["mlflow-onprem", "db-role", "passwd", "grafana", "--json"]).out)["password"]
    assert grafana("SELECT 1")[0] != 0
    assert ask("grafana", "SELECT 1", password=new) == (0, "1\n")
    server.run(["mlflow-onprem", "db-role", "remove", "grafana"])
    assert "grafana" not in server.read(f"{MAIN}/pg_hba.conf").decode()
    assert steps.psql(server, "SELECT count(*) FROM pg_roles WHERE rolname IN ('grafana', 'team_bi')") == "1"
    steps.assert_as_wanted(server)
    for secret in (made["password"], new, "a password of my own"):
        assert secret not in server.journal()


@pytest.mark.long  # not seen green since the modules moved
def test_one_install_brings_back_a_cluster_of_ours(server: Sandbox) -> None:
    """ALTER SYSTEM moved its port, its administrator is kept out, conf.d is gone, and it is down and disabled."""
    steps.psql(server, "ALTER SYSTEM SET port = 6000")
    sh(server, f"sed -i '/>>> mlflow-onprem/,/<<< mlflow-onprem/d; s/^local.*all.*postgres.*peer/local all postgres md5/' {MAIN}/pg_hba.conf")
    sh(server, f"rm -r {MAIN}/conf.d; sed -i '/^include_dir/d' {MAIN}/postgresql.conf; echo disabled > {MAIN}/start.conf")
    sh(server, "systemctl stop postgresql@15-main; systemctl disable -q postgresql; systemctl daemon-reload")
    as_pg_lsclusters_says(server)
    steps.install(server)
    assert steps.status(server)[0] == 0
    assert steps.psql(server, "SELECT current_setting('port'), current_setting('max_connections')") == "5432|200"
    assert server.read(f"{MAIN}/start.conf").decode().strip() == "auto"
    steps.assert_as_wanted(server)


@pytest.mark.long
def test_a_cluster_of_another_name_and_locale_is_used_and_left_as_it_is(server: Sandbox) -> None:
    """`prod` in LATIN1 on 5432 with its files elsewhere; `main` beside it on 5433 is nobody's business."""
    dropped(server)
    sh(server, "localedef -i de_DE -f ISO-8859-1 de_DE || { apt-get -qy install locales >/dev/null && localedef -i de_DE -f ISO-8859-1 de_DE; }")
    sh(server, "LC_ALL= pg_createcluster --datadir /srv/prod --locale de_DE --encoding LATIN1 --port 5432 15 prod --start")
    sh(server, "pg_createcluster --port 5433 15 main --start")
    sh(server, "mv /etc/postgresql/15/prod/pg_hba.conf /srv/hba.conf && ln -s /srv/hba.conf /etc/postgresql/15/prod/pg_hba.conf")
    server.run(["createdb", "wiki"], user="postgres")
    as_pg_lsclusters_says(server)
    before = server.read(f"{MAIN}/pg_hba.conf")
    steps.install(server)
    assert server.read(NOTE).decode().split() == ["shared", "15/prod"]
    found = steps.psql(server, "SELECT datname, pg_encoding_to_char(encoding), datctype FROM pg_database WHERE NOT datistemplate ORDER BY 1").split()
    assert found == ["mlflow|UTF8|C.UTF-8", "mlflow_auth|UTF8|C.UTF-8", "postgres|LATIN1|de_DE", "wiki|LATIN1|de_DE"]
    assert server.run(["readlink", "/etc/postgresql/15/prod/pg_hba.conf"]).out.strip() == "/srv/hba.conf"
    assert server.read(f"{MAIN}/pg_hba.conf") == before
    assert steps.status(server)[1]["services"][1]["unit"] == "postgresql@15-prod.service"
    steps.assert_as_wanted(server)


@pytest.mark.long
def test_a_missing_cluster_is_made_beside_somebody_elses_and_goes_alone(server: Sandbox) -> None:
    """create_main_cluster = false, or dropped; here `main` is somebody else's, on a port of its own."""
    dropped(server)
    sh(server, "pg_createcluster --port 5433 15 main --start && runuser -u postgres -- createdb --port 5433 wiki")
    changed = steps.install(server)["changed"]
    assert "cluster:15/mlflow" in changed
    assert steps.psql(server, "SHOW cluster_name") == "15/mlflow"
    steps.assert_as_wanted(server)
    server.run(["mlflow-onprem", "uninstall", "--purge-data", "--yes"], timeout=300)
    clusters = [(each["cluster"], each["running"]) for each in json.loads(server.run(["pg_lsclusters", "--json"]).out)]
    assert clusters == [("main", 1)]
    assert server.run(["psql", "-p", "5433", "-qtAc", "SELECT 1", "wiki"], user="postgres").out == "1\n"


@pytest.mark.long
def test_what_cannot_be_used_is_refused_with_the_way_out(bootstrapped: object, config: str, host: HostFactory, store: object) -> None:
    server = host(bootstrapped)  # type: ignore[arg-type]
    product.configure(server, config, store)  # type: ignore[arg-type]
    sh(server, "apt-get -q update >/dev/null; DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends postgresql-15 >/dev/null")
    data, restart = "/var/lib/postgresql/15/main", "systemctl restart postgresql@15-main"

    sh(server, f"cp {MAIN}/pg_hba.conf /srv/hba; echo 'local all all reject' > {MAIN}/pg_hba.conf; {restart}")
    said = refused(server)
    assert "does not let its administrator in (pg_hba.conf rejects connection" in said
    assert f"before every other line of {MAIN}/pg_hba.conf" in said
    sh(server, f"echo 'local all all scram-sha-256' > {MAIN}/pg_hba.conf; {restart}")
    assert "it wants a password from its administrator" in refused(server)
    sh(server, f"cat /srv/hba > {MAIN}/pg_hba.conf; touch {data}/standby.signal; {restart}")
    assert "is a standby: it copies another server" in refused(server)
    sh(server, f"rm {data}/standby.signal; echo default_transaction_read_only=on > {MAIN}/conf.d/x.conf; {restart}")
    assert "is set read-only" in refused(server)
    sh(server, f"echo \"unix_socket_directories = '/tmp'\" > {MAIN}/conf.d/x.conf; {restart}")
    assert "keeps its socket in /tmp" in refused(server)
    sh(server, f"rm {MAIN}/conf.d/x.conf; echo manual > {MAIN}/start.conf; {restart}")
    assert "does not start at boot (start.conf: manual)" in refused(server)
    sh(server, f"echo auto > {MAIN}/start.conf; systemctl stop postgresql@15-main; mv {data} /srv/away")
    assert f"{data} is missing (a disk that is not mounted?)" in refused(server)
    assert server.run(["ls", NOTE], ok=ANY).code != 0, "nothing was changed"
