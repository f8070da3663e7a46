"""A disposable host with a real systemd: made, booted, entered, stopped, turned into a layer, thrown away."""

from __future__ import annotations

import os
import shlex
import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NoReturn

from mlflow_onprem.errors import CommandFailed, OnPremError
from mlflow_onprem.host import PASSED_ON, TAIL_LINES, LocalHost, Result, Session
from mlflow_onprem.sandbox import layers, machine, network, process
from mlflow_onprem.sandbox import spec as specs
from mlflow_onprem.sandbox.layers import Layer
from mlflow_onprem.sandbox.spec import Spec

BOOT_SECONDS = 90.0


class Sandbox:
    """A host of that name. Made with `start`, found again with `find`; every method may be called again."""

    def __init__(self, spec: Spec, host: LocalHost | None = None) -> None:
        self.spec = spec
        self.host = host or LocalHost()

    # made and found --------------------------------------------------------------------------------------------------

    @classmethod
    def start(
        cls,
        name: str,
        layer: Layer,
        *,
        hostname: str | None = None,
        network: Literal["normal", "isolated"] = "normal",
        disk: str | None = None,
        memory: str | None = None,
        binds: Sequence[tuple[str, str]] = (),
        nspawn: Sequence[str] = (),
    ) -> Sandbox:
        """A fresh host on a layer, booted. Whatever had the name before, or is left of it, is thrown away first.

        `binds`: folders of this machine shown inside, as (here, inside).
        """
        host = LocalHost()
        machine.require_root(host)
        specs.check_name(name)
        old = specs.load(name)
        cls(old or Spec(name, "", "", "", name), host).destroy()
        with layers.locked("network"):
            net = _network(host)
            address = _free_address(net, layer.address)
            spec = Spec(name, layer.key, address, uuid.uuid4().hex, hostname or name, network, disk, memory, tuple(binds), tuple(nspawn))
            spec.folder.mkdir(parents=True, mode=0o700)
            specs.save(host, spec)
        sandbox = cls(spec, host)
        sandbox.boot()
        return sandbox

    @classmethod
    def find(cls, name: str) -> Sandbox | None:
        """The host of that name, running or not."""
        spec = specs.load(name)
        return None if spec is None else cls(spec)

    @classmethod
    def every(cls) -> list[Sandbox]:
        """All hosts on this machine."""
        return [cls(spec) for spec in specs.every()]

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def address(self) -> str:
        return self.spec.address

    @property
    def running(self) -> bool:
        return process.find(self.spec.root) is not None

    # life and death --------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start it and wait until systemd says it is up. Raises OnPremError with the end of its log."""
        if not self.running:
            layer = layers.find(self.spec.layer)
            if layer is None:
                raise OnPremError(f"the layer {self.spec.layer} of sandbox {self.name} is gone", f"`mlflow-onprem sandbox down --name {self.name}`")
            specs.mount(self.host, self.spec, layer)
            specs.furnish(self.host, self.spec)
            with layers.locked("network"):
                net = _network(self.host)
                inside = network.attach(self.host, net, self.name, self.address, isolated=self.spec.network == "isolated")
            process.launch(self.host, specs.argv(self.spec, inside), log=self.spec.log, unit=self.spec.unit, memory=self.spec.memory)
        try:
            process.wait_until(self._is_up, BOOT_SECONDS, f"sandbox {self.name} did not boot")
        except OnPremError as failed:
            failed.output = self.console()
            raise

    def stop(self) -> None:
        """A clean shutdown. Raises OnPremError when it hangs."""
        if process.send(self.spec.root, signal.SIGTERM):
            process.wait_until(lambda: not self.running, 120, f"sandbox {self.name} did not shut down")
        process.remove_cgroups(self.spec.unit)

    def kill(self) -> None:
        """Cut the power."""
        process.end(self.spec.root)
        process.remove_cgroups(self.spec.unit)

    def reboot(self) -> None:
        """As an administrator would: `systemctl reboot` inside, and the machine comes up again."""
        if self.running and not self.rebooting():
            self.run(["systemctl", "reboot"])
        process.wait_until(lambda: not self.running, 120, f"sandbox {self.name} did not shut down")
        self.boot()

    def rebooting(self) -> bool:
        """Whether somebody inside asked for a reboot: systemd-nspawn ends then, and we start it again."""
        if not self.running:
            return "is being rebooted." in self.console(5)
        try:
            jobs = self.run(["systemctl", "list-jobs", "--no-legend"], ok=range(256)).out
        except OnPremError:
            return not self.running and "is being rebooted." in self.console(5)
        return "reboot.target" in jobs

    def destroy(self) -> None:
        """Throw it away: process, network, mounts, files."""
        self.kill()
        if self.address:
            with layers.locked("network"):
                network.detach(self.host, _network(self.host), self.name, self.address)
        specs.unmount(self.host, self.spec)
        self.host.remove(str(self.spec.folder))

    def snapshot(self, key: str) -> Layer:
        """Stop it and make what it wrote a layer that other hosts can stand on; this host then stands on it too."""
        if self.spec.disk:
            raise OnPremError(f"sandbox {self.name} has a disk of its own size, which cannot become a layer", "make it without `disk`")
        self.stop()
        below = layers.find(self.spec.layer)
        if below is None:
            raise OnPremError(f"the layer {self.spec.layer} of sandbox {self.name} is gone")
        specs.unmount(self.host, self.spec)
        with layers.locked("layers"):
            folder = layers.scratch(self.host)
            (self.spec.folder / "upper").rename(folder / "tree")
            layer = layers.publish(self.host, folder, Layer(key, (below.key, *below.below), self.address))
        self.spec = Spec(**{**self.spec.__dict__, "layer": key})
        specs.save(self.host, self.spec)
        return layer

    # entered ---------------------------------------------------------------------------------------------------------

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: str | None = None,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        ok: Sequence[int] = (0,),
    ) -> Result:
        """A program inside, as root or another account of the host. Raises CommandFailed, naming only that program."""
        every = range(256)
        result = self.host.run(self._enter(argv, user), stdin=stdin, env=self._environment(env), timeout=timeout, ok=every)
        return result if result.code in ok else self._failed(argv, result)

    def popen(self, argv: Sequence[str], *, user: str | None = None, env: Mapping[str, str] | None = None) -> Session:
        """A program inside that is talked to while it runs."""
        return self.host.spawn(self._enter(argv, user), env=self._environment(env))

    def follow(self, argv: Sequence[str], on_line: Callable[[str], None], *, both: bool = False, timeout: float = 1800) -> Result:
        """A long program inside: what it says on standard error (`both`: and output) is passed on as it comes. Raises CommandFailed."""
        child = self.popen(argv)
        out: list[str] = []
        err: list[str] = []
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        child.stdin.close()

        def read(stream: Iterable[str], into: list[str], show: bool) -> None:
            for line in stream:
                into.append(line)
                if show:
                    on_line(line.rstrip())

        reader = threading.Thread(target=read, args=(child.stdout, out, both), daemon=True)
        alarm = threading.Timer(timeout, lambda: os.killpg(child.pid, signal.SIGTERM))
        reader.start()
        alarm.start()
        try:
            read(child.stderr, err, True)
            code = child.wait()
            reader.join()
        finally:
            alarm.cancel()
        result = Result(code, "".join(out), "".join(err))
        return self._failed(argv, result) if code else result

    def shell(self) -> int:
        """A terminal inside, for a person: a login shell of root with a terminal of the host's own."""
        argv = [
            "systemd-run",
            "--pty",
            "--quiet",
            "--collect",
            "--wait",
            f"--setenv=TERM={os.environ.get('TERM', 'xterm')}",
            "--property=EnvironmentFile=-/etc/environment",
        ]
        return self.host.interactive(self._enter([*argv, "--working-directory=/root", "/bin/bash", "--login"], None))

    def push(self, source: Path, target: str) -> None:
        """Copy a file or a folder of this machine to that path inside, owned by root; parent folders are made."""
        self.run(["mkdir", "-p", os.path.dirname(target)])  # noqa: PTH120 - a path of another host
        self.host.run(["cp", "-rT", "--preserve=mode,links", str(source), str(self.path(target))], timeout=600)

    def pull(self, source: str, target: Path) -> None:
        """Copy a file or a folder of the host to this machine."""
        self.host.run(["cp", "-rT", "--preserve=mode,links,timestamps", str(self.path(source)), str(target)], timeout=600)

    def write(self, path: str, content: str | bytes, *, mode: int = 0o644) -> None:
        """A file inside, owned by root."""
        self.run(["mkdir", "-p", os.path.dirname(path)])  # noqa: PTH120
        data = content.encode() if isinstance(content, str) else content
        LocalHost().write(str(self.path(path)), data, mode=mode, owner="root", group="root")

    def read(self, path: str) -> bytes:
        """A file inside. Raises FileNotFoundError."""
        return self.path(path).read_bytes()

    def path(self, path: str) -> Path:
        """Where a path of the running host is for this machine, symlinks followed as the host would."""
        return Path(f"/proc/{self.leader()}/root{self.run(['realpath', '-m', path]).out.rstrip()}")

    def journal(self, *options: str) -> str:
        """What `journalctl` says inside."""
        return self.run(["journalctl", "--no-pager", *options], ok=range(256)).out

    def console(self, lines: int = 20) -> str:
        """The end of what systemd-nspawn and the host's console said."""
        content = self.host.read(str(self.spec.log)) or b""
        return "\n".join(content.decode(errors="replace").splitlines()[-lines:])

    def leader(self) -> int:
        """The host's pid 1 as this machine numbers it. Raises OnPremError where it does not run."""
        supervisor = process.find(self.spec.root)
        found = None if supervisor is None else process.leader(supervisor)
        if found is None:
            raise OnPremError(f"sandbox {self.name} does not run", f"`sudo mlflow-onprem sandbox up --name {self.name}`", self.console())
        return found

    def _failed(self, argv: Sequence[str], result: Result) -> NoReturn:
        lines = (result.err if result.err.strip() else result.out).strip().splitlines()
        raise CommandFailed(f"[{self.name}] {shlex.join(argv)}", result.code, "\n".join(lines[-TAIL_LINES:]))

    def _enter(self, argv: Sequence[str], user: str | None) -> list[str]:
        # Only names stand in the command line: what this machine has and the host must not see is unset, the rest comes as environment.
        hidden = [word for name in PASSED_ON if name not in self._environment(None) for word in ("-u", name)]
        account = ["runuser", "-u", user, "--"] if user else []
        return ["nsenter", f"--target={self.leader()}", "--all", "env", "--chdir=/", *hidden, *account, *argv]

    def _environment(self, extra: Mapping[str, str] | None) -> dict[str, str]:
        carried = {} if self.spec.network == "isolated" else machine.carried(os.environ)
        return {**carried, **(extra or {})}

    def _is_up(self) -> bool:
        if not self.running:
            raise OnPremError(f"sandbox {self.name} ended while it booted", "the last lines of its console are below", self.console())
        try:
            state = self.run(["systemctl", "is-system-running"], ok=range(256), timeout=10).out.strip()
        except OnPremError:
            return False  # pid 1 is not there yet, or not yet in its namespaces
        return state in ("running", "degraded")


def teardown() -> None:
    """Destroy every host and take the bridge, the firewall table and forwarding back. Layers stay: they are only files."""
    host = LocalHost()
    machine.require_root(host)
    for sandbox in Sandbox.every():
        sandbox.destroy()
    with layers.locked("network"):
        network.remove(host, str(layers.state_dir()))


def _network(host: LocalHost) -> network.Network:
    return network.ensure(host, str(layers.state_dir()))


def _free_address(net: network.Network, preferred: str) -> str:
    return network.free_address(net, [spec.address for spec in specs.every()], preferred)
