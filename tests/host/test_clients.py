"""From a client's side: what `client-env` prints in real shells, `--check` on another machine against every kind of trouble, logs, status --watch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow_onprem_sandbox import Layer, Sandbox

from tests.host import steps
from tests.host.conftest import HostFactory
from tests.test_client_env import VALUES

pytestmark = pytest.mark.host

PASSWORD = "correct horse, battery"
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


@pytest.fixture(scope="module")
def server(module_host: HostFactory) -> Sandbox:
    """A stack with an account on it."""
    made = module_host()
    made.run(["mlflow-onprem", "user", "add", "ann"], stdin=f"{PASSWORD}\n")
    return made


@pytest.fixture(scope="module")
def client(module_host: HostFactory, bootstrapped: Layer) -> Sandbox:
    """Another machine, with the command but without a stack, and an account of no rights."""
    made = module_host(bootstrapped, hostname="laptop")
    made.run(["useradd", "--create-home", "guest"])
    return made


def check(client: Sandbox, env: dict[str, str], *options: str) -> tuple[int, dict[str, dict[str, str]]]:
    """`client-env --check` as a person without rights: exit status and findings by what they are about."""
    # A sandbox keeps this machine's proxies out of its environment, so that one is named behind that.
    proxies = [f"{name}={value}" for name, value in env.items() if name.endswith("proxy")]
    argv = ["env", *proxies, "mlflow-onprem", "client-env", "--check", "--json", *options]
    result = client.run(argv, user="guest", env={"HOME": "/home/guest", **env}, ok=(0, 4), timeout=60)
    return result.code, {each["check"]: each for each in json.loads(result.out)["findings"]}


def variables(server: Sandbox, name: str = "", **more: str) -> dict[str, str]:
    return {
        "MLFLOW_TRACKING_URI": f"http://{name or server.address}:5000",
        "MLFLOW_TRACKING_USERNAME": "ann",
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        **more,
    }


def test_a_client_that_gets_through(server: Sandbox, client: Sandbox) -> None:
    code, found = check(client, variables(server))
    assert (code, found["account"]["what"]) == (0, "logged in as ann")
    # What `client-env --user` prints, its password filled in, is all a client needs.
    printed: dict[str, Any] = json.loads(server.run(["mlflow-onprem", "client-env", "--user", "ann", "--json"]).out)["variables"]
    assert printed["MLFLOW_TRACKING_PASSWORD"] == "FILL-IN"
    assert check(client, printed)[1]["account"]["level"] == "error"
    assert check(client, {**printed, "MLFLOW_TRACKING_PASSWORD": PASSWORD})[0] == 0


def test_a_password_by_standard_input(server: Sandbox, client: Sandbox) -> None:
    argv = ["mlflow-onprem", "client-env", "--check", "--uri", f"http://{server.address}:5000", "--user", "ann"]
    assert "logged in as ann" in client.run(argv, user="guest", env={"HOME": "/home/guest"}, stdin=f"{PASSWORD}\n").out


def test_every_kind_of_trouble_in_plain_words(server: Sandbox, client: Sandbox) -> None:
    def trouble(env: dict[str, str], what: str, text: str, hint: str) -> None:
        code, found = check(client, env)
        assert code == 4
        assert (found[what]["level"], text in found[what]["what"], hint in found[what]["fix"]) == ("error", True, True), found

    trouble({}, "address", "MLFLOW_TRACKING_URI is not set", "client-env")
    trouble(variables(server, "nowhere.invalid"), "name", "nowhere.invalid", "/etc/hosts" if _answers_names(client) else "name server")
    trouble({**variables(server), "MLFLOW_TRACKING_URI": f"http://{server.address}:5001"}, "port", "is closed", "status")
    trouble({**variables(server), "MLFLOW_TRACKING_URI": f"https://{server.address}:5000"}, "certificate", "plain HTTP", "http://")
    trouble({**variables(server), "MLFLOW_TRACKING_PASSWORD": "wrong-password"}, "account", "does not know the account ann", "user passwd ann")
    trouble({"MLFLOW_TRACKING_URI": f"http://{server.address}:5000"}, "account", "are not set", "user add")
    trouble(variables(server, http_proxy="http://127.0.0.1:9"), "proxy", "127.0.0.1:9", f"no_proxy={server.address}")

    client.run(["sh", "-c", f"echo {server.address} mlflow.lan >> /etc/hosts"])
    trouble(variables(server, "mlflow.lan"), "name", "refuses requests for the name mlflow.lan", 'hosts = ["mlflow.lan"]')
    # The hint, followed.
    config = server.read("/etc/mlflow-onprem/config.toml").decode()
    steps.install(server, f'{config}\n[mlflow]\nhosts = ["mlflow.lan"]\n')
    assert check(client, variables(server, "mlflow.lan"))[0] == 0


def test_a_firewall_and_a_machine_that_is_off(server: Sandbox, client: Sandbox) -> None:
    rules = "table inet test { chain in { type filter hook input priority 0; tcp dport 5000 ip saddr %s %s; }; }"
    for verdict, text in (("drop", "a firewall drops it"), ("reject with icmp type admin-prohibited", "cannot be reached")):
        server.run(["nft", "-f", "-"], stdin=rules % (client.address, verdict))
        code, found = check(client, variables(server))
        server.run(["nft", "delete", "table", "inet", "test"])
        assert (code, text in found["port"]["what"]) == (4, True), found
    assert check(client, variables(server))[0] == 0


def test_the_clients_own_mlflow_is_compared(module_host: HostFactory, server: Sandbox, client: Sandbox, clients: Layer) -> None:
    machine = module_host(clients, hostname="worker")
    versions = {}
    for python in ("/opt/mlflow-3.17.2/bin/python", "/opt/mlflow-2.22.5/bin/python"):
        program = "import importlib.metadata as m; print(m.version('mlflow-skinny'))"
        versions[python] = machine.run([python, "-c", program]).out.strip()
    # The command finds a version by asking a Python: here one that says what that machine's says.
    for version, level in ((versions["/opt/mlflow-3.17.2/bin/python"], "ok"), (versions["/opt/mlflow-2.22.5/bin/python"], "warning")):
        client.write("/usr/local/bin/a-python", f"#!/bin/sh\necho {version}\n", mode=0o755)
        code, found = check(client, variables(server), "--python", "/usr/local/bin/a-python")
        assert (code, found["version"]["level"]) == (0, level)


def test_a_netrc_does_go_before_the_variables(module_host: HostFactory, server: Sandbox, client: Sandbox, clients: Layer) -> None:
    """What --check says of a .netrc is what MLflow's own client does."""
    machine = module_host(clients, hostname="netrc")
    machine.write("/root/.netrc", f"machine {server.address} login ann password stale-password\n", mode=0o600)
    program = "import mlflow; mlflow.search_experiments()"
    env = variables(server, HOME="/root", MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
    refused = machine.run(["/opt/mlflow-3.17.2/bin/python", "-c", program], env=env, ok=steps.ANY, timeout=120)
    assert refused.code
    assert "401" in refused.err
    client.run(["sh", "-c", "cat > /home/guest/.netrc && chown guest /home/guest/.netrc"], stdin=machine.read("/root/.netrc").decode())
    code, found = check(client, variables(server))
    client.run(["rm", "/home/guest/.netrc"])
    assert (code, found["netrc"]["level"]) == (4, "warning")


def test_forms_in_the_shells_that_read_them_and_completion(client: Sandbox) -> None:
    client.run(["apt-get", "-qq", "update"], timeout=300)
    packages = ["fish", "zsh", "bash-completion", "dash", "man-db"]
    client.run(["apt-get", "-qq", "install", "--yes", "--no-install-recommends", *packages], env=QUIET, timeout=600)
    python = "/opt/mlflow-onprem/cli/bin/python"
    for form, shell in (("sh", "dash"), ("sh", "bash"), ("sh", "zsh"), ("fish", "fish")):
        program = f"import json, sys; from mlflow_onprem.client.forms import form; print(form({form!r}, json.load(sys.stdin), ['a note']))"
        text = client.run([python, "-I", "-c", program], stdin=json.dumps(VALUES)).out
        client.write("/root/pasted", text + "\nenv -0\n")
        found = dict(each.partition("=")[::2] for each in client.run([shell, "/root/pasted"]).out.split("\0"))
        assert {name: found.get(name) for name in VALUES} == VALUES, shell
        # Pasted twice where a proxy's exceptions are set: they stay, and the server is added once, in both spellings.
        program = program.replace("['a note'])", "['a note'], ('ml1', '10.0.0.7'))")
        text = client.run([python, "-I", "-c", program], stdin="{}").out
        client.write("/root/pasted", f"{text}\n{text}\nenv -0\n")
        for before, after in (("a,b", "a,b,ml1,10.0.0.7"), ("*", "*"), ("", "ml1,10.0.0.7")):
            output = client.run(["env", f"no_proxy={before}", shell, "/root/pasted"]).out
            found = dict(each.partition("=")[::2] for each in output.split("\0"))
            assert (found.get("no_proxy"), found.get("NO_PROXY")) == (after, after), shell

    assert re.search(r"mlflow-onprem user add", client.run(["man", "--pager=cat", "mlflow-onprem"], env={"MANWIDTH": "200"}).out)
    assert "user" in client.run(["fish", "-c", 'complete -C "mlflow-onprem us"']).out
    bash = (
        ". /usr/share/bash-completion/bash_completion\n"
        "if declare -F _comp_load >/dev/null; then _comp_load mlflow-onprem; else __load_completion mlflow-onprem; fi\n"
        'COMP_WORDS=(mlflow-onprem user ""); COMP_CWORD=2; _mlflow_onprem_completion mlflow-onprem; echo "${COMPREPLY[*]}"\n'
    )
    assert client.run(["bash", "--norc"], stdin=bash).out.split() == ["add", "list", "passwd", "remove", "grant"]
    client.write("/root/zsh-test", Path(__file__).with_name("zsh_completion.zsh").read_text())
    assert "mlflow-onprem client-env" in client.run(["zsh", "/root/zsh-test"], env={"TERM": "xterm"}).out


def test_logs_in_one_order_of_time(server: Sandbox) -> None:
    server.run(["mlflow-onprem", "user", "add", "ann"], stdin=f"{PASSWORD}\n", ok=(1,))  # makes MLflow read, and be refused by nothing
    steps.psql(server, "DO $$ BEGIN RAISE WARNING 'a line of ours'; END $$")
    server.run(["logger", "--tag=elsewhere", "not of the stack"])
    found = json.loads(server.run(["mlflow-onprem", "logs", "--json", "-n", "500"]).out)["lines"]
    assert [each["time"] for each in found] == sorted(each["time"] for each in found)
    assert {each["service"] for each in found} == {"minio", "postgres", "mlflow"}
    ours = [each for each in found if "a line of ours" in each["text"]]
    assert [(each["service"], each["level"]) for each in ours] == [("postgres", "warning")]
    assert not any("not of the stack" in each["text"] for each in found)
    only = json.loads(server.run(["mlflow-onprem", "logs", "minio", "--json", "--since", "1d"]).out)["lines"]
    assert {each["service"] for each in only} == {"minio"}
    assert server.run(["mlflow-onprem", "logs", "-n", "3"]).out.count("\n") >= 3


def test_logs_are_for_those_who_may_read_them(server: Sandbox) -> None:
    refused = server.run(["mlflow-onprem", "logs"], user="nobody", ok=(1,))
    assert "usermod -aG adm" in refused.err
    server.run(["useradd", "--groups", "adm", "watcher"])
    assert {"postgres", "mlflow"} <= {
        line.split()[2] for line in server.run(["mlflow-onprem", "logs"], user="watcher").out.splitlines() if line[:2] == "20"
    }


def test_logs_follow_what_comes_and_end_at_ctrl_c(server: Sandbox) -> None:
    child = server.popen(["sh", "-c", "echo $$; exec mlflow-onprem logs -f -n 1"])
    assert child.stdout is not None
    pid = child.stdout.readline().strip()
    child.stdout.readline()  # what was there
    steps.psql(server, "DO $$ BEGIN RAISE WARNING 'followed %', 1; END $$")
    seen = ""
    while "followed 1" not in seen:
        line = child.stdout.readline()
        assert line, "it ended before it showed the line"
        seen += line
    server.run(["kill", "-INT", pid])
    assert child.wait(timeout=20) == 0
    child.communicate()


@pytest.mark.long  # not seen green since the modules moved
def test_status_is_watched_until_q(server: Sandbox) -> None:
    plain = server.run(["timeout", "--foreground", "--preserve-status", "--signal=INT", "5", "mlflow-onprem", "status", "--watch"], ok=steps.ANY)
    lines = plain.out.splitlines()
    assert plain.code == 0
    assert len(lines) >= 2
    assert all(line.endswith("minio ok, postgres ok, mlflow ok") for line in lines)
    shown = steps.on_terminal(server, ["mlflow-onprem", "status", "--watch"], ("q ends", "x"), ("q ends", "q"))
    assert shown.code == 0
    assert "again every 2 s; q ends" in shown.out
    assert "Traceback" not in shown.out


def _answers_names(machine: Sandbox) -> bool:
    """Whether a name server says that the name does not exist, rather than nothing."""
    program = (
        "import socket\ntry:\n    socket.getaddrinfo('nowhere.invalid', 1)\nexcept socket.gaierror as e:\n    print(e.errno == socket.EAI_AGAIN)"
    )
    return machine.run(["python3", "-c", program]).out.strip() == "False"
