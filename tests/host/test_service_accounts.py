"""Accounts of the services' names that are somebody's: refused before anything is changed; and a directory's service account, used as it is."""

from __future__ import annotations

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox, product

from tests.host import steps
from tests.host.conftest import HostFactory

pytestmark = [pytest.mark.host, pytest.mark.long]
#: As LDAP has them behind NSS: the account's first group is everybody's, its shell the directory's default.
DIRECTORY = "svc-mlflow:x:70001:70000:MLflow:/home/svc-mlflow:/bin/bash\n"
EVERYBODY = "corp:x:70000:ann,bob\n"
BOOKS = ("/etc/passwd", "/etc/group", "/etc/shadow")


def with_directory(server: Sandbox) -> None:
    """A second source of accounts behind /etc/passwd, as SSSD is one."""
    server.run(["apt-get", "-qq", "update"], timeout=300)
    server.run(["apt-get", "-qq", "install", "--yes", "libnss-extrausers"], env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=300)
    server.run(["sed", "-i", "-E", "s/^(passwd|group):.*/\\1: files extrausers/", "/etc/nsswitch.conf"])
    for name, text in (("passwd", DIRECTORY), ("group", EVERYBODY), ("shadow", "")):
        server.write(f"/var/lib/extrausers/{name}", text)


def books(server: Sandbox) -> dict[str, bytes]:
    return {path: server.read(path) for path in BOOKS}


def services(server: Sandbox) -> dict[str, str]:
    """The accounts that both run as."""
    return {unit: server.run(["ps", "-o", "user:32=", "-p", steps.show(server, unit, "MainPID")["MainPID"]]).out.strip() for unit in steps.UNITS[::2]}


def test_a_person_and_people_of_our_names_are_refused_with_the_way_on(host: HostFactory, bootstrapped: Layer, config: str) -> None:
    server = host(bootstrapped)
    server.write(product.CONFIG, config)
    server.run(["useradd", "--create-home", "--shell", "/bin/bash", "mlflow"])
    server.run(["chpasswd"], stdin="mlflow:of-a-person\n")
    before = books(server)
    refused = steps.attempt(server)
    assert refused.code == 1
    for part in ("the account mlflow", "/bin/bash", "has a password", 'user = "mlflow-server" in [mlflow]'):
        assert part in refused.err, refused.err
    server.run(["userdel", "--remove", "mlflow"])
    server.run(["groupadd", "--system", "--users", "daemon", "minio"])
    refused = steps.attempt(server)
    assert refused.code == 1
    assert "there is a group minio on this host, and it is people's: daemon belong to it" in refused.err
    server.run(["groupdel", "minio"])
    assert {name for name in books(server) if before[name] != books(server)[name]} <= set(BOOKS)
    assert server.run(["ls", "/etc/mlflow-onprem"]).out.split() == ["config.toml"], "nothing was changed"


def test_an_installed_host_is_given_other_accounts_one_of_them_a_directorys(host: HostFactory, config: str) -> None:
    server = host()
    with_directory(server)
    before = server.read("/etc/passwd").decode()
    steps.install(server, steps.configured(config, minio='user = "store"', mlflow='user = "svc-mlflow"'))
    assert services(server) == {"minio.service": "store", "mlflow.service": "svc-mlflow"}
    assert "svc-mlflow" not in server.read("/etc/passwd").decode()
    assert server.run(["stat", "-c", "%U:%G %a", "/opt/minio/data"]).out.strip() == "store:store 750"
    assert server.run(["find", "/opt/minio/data", "/var/lib/mlflow", "!", "-user", "store", "!", "-user", "svc-mlflow"]).out == ""
    steps.assert_as_wanted(server)
    assert steps.status(server)[0] == 0
    server.run(["mlflow-onprem", "doctor"], timeout=300)
    server.run(["mlflow-onprem", "gc"], timeout=300)

    server.run(["mlflow-onprem", "uninstall", "--purge-data", "--yes"], timeout=600)
    assert server.run(["getent", "passwd", "svc-mlflow"]).out == DIRECTORY
    left = server.read("/etc/passwd").decode()
    ours = [line.partition(":")[0] for line in left.splitlines() if line.partition(":")[0] in ("store", "minio", "mlflow")]
    assert ours == [], f"they were made for the stack: {set(before.splitlines()) ^ set(left.splitlines())}"
    assert server.run(["sh", "-c", "ls -d /etc/systemd/system/m*.service.d"], ok=steps.ANY).out == ""
