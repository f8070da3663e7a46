"""Where clients reach a host: several interfaces, DNS or none, IPv6 alone, a proxy before it, an address that is gone."""

from __future__ import annotations

import dataclasses
import socket

import pytest
from mlflow_onprem_server import own_address

from mlflow_onprem.core.errors import Refused
from mlflow_onprem.core.host import Result
from mlflow_onprem.doctor import host_checks
from mlflow_onprem.settings import addresses
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.facts import Facts
from mlflow_onprem.stack import health
from mlflow_onprem.stack.health import ProbeFailed
from mlflow_onprem.stack.preflight import check_addresses
from mlflow_onprem.system import host_addresses
from tests.fake_machine import FACTS
from tests.fakes import FakeHost
from tests.test_facts import gather, machine
from tests.web import Reply, Request, serve

NOWHERE = "192.0.2.77"  # of the documentation's networks: nobody has it


def mlflow(**settings: object) -> Config:
    return Config.model_validate({"mlflow": settings})


def of(*names: str) -> Facts:
    return dataclasses.replace(FACTS, names=names)


def host(dns: str = "") -> FakeHost:
    made = FakeHost()
    made.programs["getent"] = lambda _: Result(0 if dns else 2, dns, "")
    return made


@pytest.mark.parametrize(
    ("settings", "names", "uri"),
    [
        ({}, ("gpu01", "10.0.0.7"), "http://10.0.0.7:5000"),
        ({}, ("3dlab", "10.0.0.7"), "http://10.0.0.7:5000"),
        ({}, ("gpu01", "fd00::7", "10.0.0.7"), "http://10.0.0.7:5000"),
        ({"bind": "::"}, ("gpu01", "fd00::7"), "http://[fd00::7]:5000"),
        ({}, ("gpu01", "fd00::7"), "http://gpu01:5000"),
        ({"bind": "10.0.0.8"}, ("gpu01", "10.0.0.7", "10.0.0.8"), "http://10.0.0.8:5000"),
        ({"bind": "127.0.0.1"}, ("gpu01", "10.0.0.7"), "http://127.0.0.1:5000"),
        ({"hosts": ["*.example.com", "mlflow.example.com"], "bind": "127.0.0.1"}, ("gpu01", "10.0.0.7"), "http://mlflow.example.com:5000"),
        ({"hosts": ["mlflow.example.com:443"], "bind": "127.0.0.1"}, ("gpu01", "10.0.0.7"), "https://mlflow.example.com"),
        ({"hosts": ["fd00::9"]}, ("gpu01", "10.0.0.7"), "http://[fd00::9]:5000"),
    ],
)
def test_what_clients_are_told(settings: dict[str, object], names: tuple[str, ...], uri: str) -> None:
    assert addresses.tracking_uri(host(), mlflow(**settings), of(*names)) == uri


def test_a_name_counts_where_dns_leads_it_to_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_addresses, "has", lambda address: address in ("10.0.0.7", "127.0.1.1"))
    found = of("GPU01", "GPU01.corp.example", "gpu01.local", "10.0.0.7")
    assert addresses.tracking_uri(host("10.0.0.7 STREAM x\n"), Config(), found) == "http://gpu01.corp.example:5000"
    assert addresses.tracking_uri(host("10.0.0.99 STREAM x\n"), Config(), found) == "http://10.0.0.7:5000", "somebody else's"
    assert addresses.tracking_uri(host("127.0.1.1 STREAM x\n"), Config(), found) == "http://10.0.0.7:5000", "this host's own notes"
    asked = host()
    addresses.tracking_uri(asked, Config(), of("gpu01", "gpu01.local", "10.0.0.7"))
    assert [call.argv[0] for call in asked.calls] == [], "no name that a name server would know"


def test_who_is_kept_from_that_address_is_told() -> None:
    assert "only this host reaches that address" in addresses.remarks(mlflow(bind="127.0.0.1"), of("a", "10.0.0.7"))[0]
    assert 'bind = "::"' in addresses.remarks(Config(), of("a", "fd00::7"))[0]
    for settings in ({}, {"bind": "127.0.0.1", "hosts": ["mlflow.example.com"]}, {"bind": "10.0.0.7"}):
        assert addresses.remarks(mlflow(**settings), of("a", "10.0.0.7", "fd00::7")) == []


def test_the_address_that_leads_out_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's and libvirt's bridges have addresses as well, and lower ones."""
    found = FakeHost()
    found.script(["hostname", "-I"], out="172.17.0.1 192.168.5.7 fe80::1 fd00::7 \n")
    monkeypatch.setattr(host_addresses, "towards_the_network", lambda: ["192.168.5.7", "fd00::7"])
    assert host_addresses.of_host(found) == ("192.168.5.7", "fd00::7", "172.17.0.1")
    monkeypatch.setattr(host_addresses, "towards_the_network", list)
    assert host_addresses.of_host(found) == ("172.17.0.1", "192.168.5.7", "fd00::7"), "no way out: in the order of the interfaces"


def test_names_of_a_host_as_debian_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "GPU01")
    monkeypatch.setattr(host_addresses, "towards_the_network", list)
    found = machine()
    found.put("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 gpu01.corp.example GPU01\n")
    found.put("/etc/resolv.conf", "search lab.example\n")
    assert gather(found).names == ("GPU01", "gpu01.corp.example", "GPU01.lab.example", "10.0.0.5", "fd00::5")


def test_an_address_that_is_gone_is_named_before_anything_is_changed() -> None:
    found = FakeHost()
    found.script(["hostname", "-I"], out="10.0.0.7\n")
    with pytest.raises(Refused, match=rf"mlflow.bind is {NOWHERE}, and this host does not have that address now \(it has 10.0.0.7\)") as caught:
        check_addresses(found, mlflow(bind=NOWHERE))
    assert "0.0.0.0 stands for all" in caught.value.hint
    with pytest.raises(Refused, match=r"minio.console_bind is"):
        check_addresses(found, Config.model_validate({"minio": {"console_bind": NOWHERE}}))
    check_addresses(found, Config())


def test_status_names_an_address_that_is_gone() -> None:
    [probe] = [each for each in health.probes(mlflow(bind=NOWHERE, port=9), None) if each.name == "mlflow"]
    with pytest.raises(ProbeFailed, match=rf"\[mlflow\] bind is {NOWHERE}, and this host does not have that address now"):
        probe.check()


def test_status_asks_by_the_names_that_clients_use() -> None:
    asked: list[str] = []

    def answer(request: Request) -> Reply:
        if request.path in ("/health", "/version"):
            return 200, "OK" if request.path == "/health" else "3.17.2", {}
        asked.append(request.headers["Host"])
        return (403, "Invalid Host header - no", {}) if request.headers["Host"] == "old.example:8443" else (200, "{}", {})

    with serve(answer) as site:
        assert health.check_mlflow(site.url, ("gpu01", "mlflow.example.com")) == "MLflow 3.17.2 serves"
        assert asked == ["gpu01", "mlflow.example.com"]
        with pytest.raises(ProbeFailed, match=r"refuses everybody who calls this server old.example:8443: sudo mlflow-onprem install"):
            health.check_mlflow(site.url, ("gpu01", "old.example:8443"))


def test_which_names_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "GPU_01")
    assert addresses.client_names(mlflow(hosts=["*.example.com", "a.example:8443"])) == ("a.example:8443", "gpu_01")
    monkeypatch.setattr(socket, "gethostname", lambda: "not a name")
    assert addresses.client_names(Config()) == ()


def test_doctor_says_where_a_name_leads_nowhere() -> None:
    assert host_checks.client_address("http://127.0.0.1:5000", []).level == "ok"
    lost = host_checks.client_address("http://nowhere.invalid:5000", [])
    assert (lost.level, "the name nowhere.invalid is not known here" in lost.what) == ("warning", True)
    assert host_checks.client_address("http://127.0.0.1:5000", ["only this host"]).level == "warning"


def test_the_stores_address_for_clients_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_address, "_towards_the_network", lambda: "10.0.0.9")
    worked_out = {"ONPREM_PUBLIC_S3_URL": f"http://{NOWHERE}:9000", "ONPREM_PUBLIC_S3_FOLLOWS": "true"}
    assert own_address.public_store_url(worked_out) == "http://10.0.0.9:9000"
    assert own_address.public_store_url({**worked_out, "ONPREM_PUBLIC_S3_FOLLOWS": ""}) == f"http://{NOWHERE}:9000", "configured: not ours to change"
    here = {**worked_out, "ONPREM_PUBLIC_S3_URL": "http://127.0.0.1:9000"}
    assert own_address.public_store_url(here) == "http://127.0.0.1:9000"
    monkeypatch.setattr(own_address, "_towards_the_network", lambda: None)
    assert own_address.public_store_url(worked_out) == f"http://{NOWHERE}:9000"
