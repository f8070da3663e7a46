"""pip.conf, uv.toml and variables: what says where packages come from counts, what breaks an environment of one's own does not."""

from __future__ import annotations

from mlflow_onprem.system import index_settings
from mlflow_onprem.system.index_settings import for_pip, for_uv

PIP = """\
[global]
index-url = https://mirror.example/simple
extra_index_url =
    https://one.example/simple
    https://two.example/simple
trusted-host = mirror.example
cert = /etc/company.pem
user = true
target = /srv/elsewhere
no-binary = :all:
require-virtualenv = true
prefix = /usr/local
[install]
find-links = /srv/wheels
"""
UV = """\
native-tls = false
find-links = ["/srv/a", "/srv/b"]
python-install-mirror = "https://mirror.example/python"
[[index]]
url = "https://mirror.example/simple"
default = true
[[index]]
url = "https://more.example/simple"
[pip]
target = "/srv/elsewhere"
no-binary = [":all:"]
require-hashes = false
"""


def reading(**files: str) -> index_settings.Read:
    places = {"pip": "/etc/pip.conf", "uv": "/etc/uv/uv.toml", "mine": "/root/.config/pip/pip.conf", "authorities": index_settings.AUTHORITIES}
    there = {places[name]: text.encode() for name, text in files.items()}
    return there.get


def test_what_counts_for_pip() -> None:
    assert for_pip(reading(pip=PIP), {}) == {
        "PIP_INDEX_URL": "https://mirror.example/simple",
        "PIP_EXTRA_INDEX_URL": "https://one.example/simple https://two.example/simple",
        "PIP_TRUSTED_HOST": "mirror.example",
        "PIP_CERT": "/etc/company.pem",
        "PIP_FIND_LINKS": "/srv/wheels",
        "PIP_CONFIG_FILE": "/dev/null",
    }


def test_a_variable_goes_before_a_file_and_a_persons_file_before_the_systems() -> None:
    mine = "[global]\nindex-url = https://mine.example/simple\n"
    assert for_pip(reading(pip=PIP, mine=mine), {})["PIP_INDEX_URL"] == "https://mine.example/simple"
    assert for_pip(reading(pip=PIP, mine=mine), {"PIP_INDEX_URL": "https://now.example"})["PIP_INDEX_URL"] == "https://now.example"


def test_the_systems_authorities_count_where_nothing_else_is_named() -> None:
    assert for_pip(reading(authorities="x"), {})["PIP_CERT"] == index_settings.AUTHORITIES
    assert "PIP_CERT" not in for_pip(reading(authorities="x"), {"REQUESTS_CA_BUNDLE": "/mine.pem"})
    assert "PIP_CERT" not in for_pip(reading(), {})


def test_what_counts_for_uv_is_pips_where_uv_has_none() -> None:
    assert for_uv(reading(pip=PIP), {}, lambda _: True) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/srv/wheels",
        "UV_INSECURE_HOST": "mirror.example",
        "SSL_CERT_FILE": "/etc/company.pem",
        "UV_NO_CONFIG": "1",
    }
    assert for_uv(reading(), {"PIP_INDEX_URL": "https://mirror.example/simple"})["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert "UV_FIND_LINKS" not in for_uv(reading(pip=PIP), {}, lambda _: False)
    assert for_uv(reading(authorities="x"), {}) == {"UV_NO_CONFIG": "1"}


def test_uvs_own_file_goes_before_pips_and_its_variables_before_both() -> None:
    found = for_uv(reading(pip=PIP, uv=UV), {"UV_INDEX": "https://now.example/simple"})
    assert found == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_FIND_LINKS": "/srv/a,/srv/b",
        "UV_INSECURE_HOST": "mirror.example",
        "UV_PYTHON_INSTALL_MIRROR": "https://mirror.example/python",
        "SSL_CERT_FILE": "/etc/company.pem",
        "UV_NO_CONFIG": "1",
    }


def test_pips_proxy_is_uvs_where_there_is_no_other() -> None:
    proxy = "[global]\nproxy = http://proxy.example:3128\n"
    assert for_uv(reading(pip=proxy), {})["https_proxy"] == "http://proxy.example:3128"
    assert "https_proxy" not in for_uv(reading(pip=proxy), {"https_proxy": "http://mine:1"})


def test_broken_files_stop_nothing() -> None:
    assert for_pip(reading(pip="no section\n"), {}) == {"PIP_CONFIG_FILE": "/dev/null"}
    assert for_uv(reading(uv="= ="), {}) == {"UV_NO_CONFIG": "1"}


def test_what_bootstrap_sets_and_unsets() -> None:
    environ = {"PIP_USER": "1", "PIP_TARGET": "/x", "PIP_INDEX_URL": "https://now.example", "HOME": "/root"}
    assert index_settings.lines(reading(), environ) == ["-PIP_USER", "-PIP_TARGET", "PIP_CONFIG_FILE=/dev/null"]
