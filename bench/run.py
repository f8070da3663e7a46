"""`make bench`: the article's stack and this one, side by side in one run; prints medians and ratios. Needs root, takes about 15 minutes."""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mlflow_onprem_sandbox import Layer, Sandbox, install_tools, prepare, product

from bench.load import Server, rate, requests
from mlflow_onprem.sandbox.command import store_from_source
from mlflow_onprem.system.local_host import LocalHost

ROUND_SECONDS = 3.0
#: A kept connection with accounts on: at least this many times the article's rate, at 1 and at 4 connections.
TARGETS = {
    "health": (4.0, 1.5),
    "create run": (4.0, 1.5),
    "log-metric": (4.0, 1.5),
    "log-batch of 100": (1, 1),
    "get run": (1, 1),
    "search 100 runs": (1, 1),
}


def say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def mirror(folder: Path, address: str) -> Iterator[str]:
    """The folder by HTTP on the sandboxes' bridge."""
    handler = functools.partial(type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=str(folder))
    # Whoever looks at a file's headers only ends the connection early: no news.
    server = type("Mirror", (http.server.ThreadingHTTPServer,), {"handle_error": lambda *_: None})((address, 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{address}:{server.server_address[1]}"
    finally:
        server.shutdown()


def pss(host: Sandbox, unit: str) -> float:
    """Memory of a unit's processes in MB, shared pages divided among their users."""
    group = host.run(["systemctl", "show", "-P", "ControlGroup", unit]).out.strip()
    # nspawn without a cgroup namespace shows the machine's own path; inside, the tree starts at the host's slice.
    files = f"/sys/fs/cgroup{group[group.index('/system.slice') :]}/cgroup.procs"
    script = f"for p in $(cat {files}); do sed -n 's/^Pss: *//p' /proc/$p/smaps_rollup; done | tr -d kB"
    return sum(int(each) for each in host.run(["sh", "-c", script]).out.split()) / 1000


def timed(host: Sandbox, argv: Sequence[str], times: int = 1) -> list[float]:
    """Seconds of a command inside, each run."""
    result = []
    for _ in range(times):
        started = time.monotonic()
        host.run(argv, timeout=1800)
        result.append(time.monotonic() - started)
    return result


def inside(host: Sandbox, command: str, times: int) -> list[float]:
    """Seconds of a command, measured inside the host by its own shell, without what entering costs."""
    loop = f"for i in $(seq {times}); do s=$(date +%s%N); {command} >/dev/null 2>&1; e=$(date +%s%N); echo $((e - s)); done"
    return [int(each) / 1e9 for each in host.run(["bash", "-c", loop], timeout=600).out.split()]


def row(name: str, ours: float, theirs: float, unit: str, target: str, *, met: bool) -> None:
    say(f"{name:<38} {theirs:>9.2f} {ours:>9.2f} {unit:<6} {ours / theirs:>6.2f}   {target:<10} {'' if met else 'MISSED'}")


def cold(base: Layer, bootstrapped: Layer, address: str, store: Path, config: str, repeats: int) -> tuple[Sandbox, Sandbox]:
    """Install both, in turn; the last two hosts are kept for the rest, the article's switched off."""
    times: dict[str, list[float]] = {"article": [], "ours": []}
    for _ in range(repeats):
        article = Sandbox.start("bench-article", base)
        article.run(["sh", "-c", "apt-get -qq update && apt-get -qq -y install --no-install-recommends python3 >/dev/null 2>&1"], timeout=300)
        article.push(Path(__file__).with_name("article.sh"), "/root/article.sh")
        times["article"] += timed(article, ["/root/article.sh", f"{address}/{store.name}"])
        article.stop()
        ours = Sandbox.start("bench-ours", bootstrapped)
        ours.write("/etc/mlflow-onprem/config.toml", config)
        times["ours"] += timed(ours, ["mlflow-onprem", "install", "--json"])
    mine, theirs = statistics.median(times["ours"]), statistics.median(times["article"])
    row("cold install, s", mine, theirs, "s", "<= 0.40", met=mine / theirs <= 0.4)
    return article, ours


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5, help="measurements of each call and connection count")
    options.add_argument("--cold", type=int, default=2, help="cold installations of each")
    arguments = options.parse_args()
    host = LocalHost()
    install_tools(host, say)
    base = prepare("bookworm", on_progress=say)
    bootstrapped = product.bootstrapped(base, product.checkout(), say)
    store = store_from_source(host, say)
    sha256 = hashlib.sha256(store.read_bytes()).hexdigest()
    probe = Sandbox.start("bench-probe", base)
    gateway = probe.run(["sh", "-c", "ip -4 route show default | awk '{print $3}'"]).out.strip()
    probe.destroy()
    say(f"{'':<38} {'article':>9} {'ours':>9} {'':<6} {'ratio':>6}   target")
    with mirror(store.parent, gateway) as address:
        config = f'[minio]\nurl = "{address}/{store.name}"\nsha256 = "{sha256}"\n'
        article, ours = cold(base, bootstrapped, address, store, config, arguments.cold)
    try:
        compare(article, ours, arguments.rounds)
    finally:
        article.destroy()
        ours.destroy()
    return 0


def compare(article: Sandbox, ours: Sandbox, rounds: int) -> None:
    """Everything that is measured on two installed hosts."""
    for command, limit in (("install --json", 1.0), ("plan --json", 0.6), ("status --json", 0.6)):
        seconds = statistics.median(inside(ours, f"mlflow-onprem {command}", 15))
        say(f"{'again: ' + command:<38} {'-':>9} {seconds:>9.2f} {'s':<6} {'-':>6}   <= {limit:<7} {'' if seconds <= limit else 'MISSED'}")
    article.boot()
    account = json.loads(ours.run(["mlflow-onprem", "client-env", "--json"]).out)["variables"]
    servers = {
        "article": Server(article.address),
        "ours": Server(ours.address, account["MLFLOW_TRACKING_USERNAME"], account["MLFLOW_TRACKING_PASSWORD"]),
    }
    wait_for(servers["article"])
    mine, theirs = pss(ours, "mlflow.service"), pss(article, "mlflow.service")
    row("idle memory of MLflow (PSS)", mine, theirs, "MB", "<= 0.35", met=mine / theirs <= 0.35)
    for server in servers.values():
        server.prepare()
    for name in requests(servers["ours"]):
        for index, connections in enumerate((1, 4)):
            rates: dict[str, list[float]] = {"article": [], "ours": []}
            for _ in range(rounds):
                for side, server in servers.items():
                    rates[side].append(rate(server, name, connections, ROUND_SECONDS))
            target = TARGETS[name][index]
            mine, theirs = statistics.median(rates["ours"]), statistics.median(rates["article"])
            row(f"{name}, {connections} connection{'s' * (connections > 1)}", mine, theirs, "/s", f">= {target}", met=mine / theirs >= target)
    mine, theirs = pss(ours, "mlflow.service"), pss(article, "mlflow.service")
    row("memory of MLflow after the load (PSS)", mine, theirs, "MB", "", met=True)


def wait_for(server: Server, deadline: float = 120) -> None:
    """Until it serves after its reboot."""
    end = time.monotonic() + deadline
    while True:
        try:
            connection = server.connect()
            server.call(connection, "GET", "/health")
            return
        except (OSError, RuntimeError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
