"""A disposable host with a real systemd: made, booted, entered, stopped, turned into a layer, thrown away."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Literal

from mlflow_onprem.core.errors import OnPremError
from mlflow_onprem.system.local_host import LocalHost
from mlflow_onprem_sandbox import layers, machine, network, process
from mlflow_onprem_sandbox import spec as specs
from mlflow_onprem_sandbox.guest import Guest
from mlflow_onprem_sandbox.layers import Layer
from mlflow_onprem_sandbox.spec import Spec

BOOT_SECONDS = 90.0


class Sandbox(Guest):
    """A host of that name. Made with `start`, found again with `find`; every method may be called again."""

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
        cls.discard(name)
        with layers.locked("network"):
            net = _network(host)
            address = _free_address(net, layer.address)
            spec = Spec(name, layer.key, address, uuid.uuid4().hex, hostname or name, network, disk, memory, tuple(binds), tuple(nspawn))
            spec.folder.mkdir(parents=True, mode=0o700)
            specs.save(host, spec)
        sandbox = cls(spec, host)
        try:
            sandbox.boot()
        except BaseException:
            sandbox.destroy()
            raise
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

    @classmethod
    def discard(cls, name: str) -> None:
        """Destroy the host of that name, or what a crash left of one."""
        cls(specs.load(name) or Spec.remains(name)).destroy()

    # life and death --------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start it and wait until systemd says it is up. Raises OnPremError with the end of its log."""
        pid = process.find(self.spec.root)
        if pid is None:
            layer = layers.find(self.spec.layer)
            if layer is None:
                raise OnPremError(f"the layer {self.spec.layer} of sandbox {self.name} is gone", f"`mlflow-onprem sandbox down --name {self.name}`")
            process.end(self.host, self.spec.root, self.spec.unit)
            specs.mount(self.host, self.spec, layer)
            specs.furnish(self.host, self.spec)
            with layers.locked("network"):
                net = _network(self.host)
                inside = network.attach(self.host, net, self.name, self.address, isolated=self.spec.network == "isolated")
            pid = process.launch(self.host, specs.argv(self.spec, inside), log=self.spec.log, unit=self.spec.unit, memory=self.spec.memory)
        try:
            process.wait_until(partial(self._is_up, pid), BOOT_SECONDS, f"sandbox {self.name} did not boot")
        except OnPremError as failed:
            failed.output = self.console()
            raise

    def stop(self) -> None:
        """A clean shutdown. Raises OnPremError when it hangs."""
        if process.send(self.spec.root, signal.SIGTERM):
            process.wait_until(lambda: not self.running, 120, f"sandbox {self.name} did not shut down")
        process.tidy(self.host, self.spec.unit)

    def kill(self) -> None:
        """Cut the power."""
        process.end(self.host, self.spec.root, self.spec.unit)

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

    def _is_up(self, pid: int) -> bool:
        if not process.exists(pid):
            raise OnPremError(f"sandbox {self.name} ended while it booted", "the last lines of its console are below", self.console())
        try:
            state = self.run(["systemctl", "is-system-running"], ok=range(256), timeout=10).out.strip()
        except OnPremError:
            return False  # pid 1 is not there yet, or not yet in its namespaces
        return state in ("running", "degraded")


def teardown() -> str:
    """Destroy every host, also what a crash left of one, and the network; returns who else still needs forwarding."""
    machine.require_root(LocalHost())
    for name in specs.names():
        Sandbox.discard(name)
    return remove_network_if_unused()


def remove_network_if_unused() -> str:
    """Where no host is left: the bridge and the firewall table go, and forwarding unless others need it; returns who. Layers stay: they are files."""
    with layers.locked("network"):
        return "" if specs.names() else network.remove(LocalHost(), str(layers.state_dir()))


def _network(host: LocalHost) -> network.Network:
    return network.ensure(host, str(layers.state_dir()))


def _free_address(net: network.Network, preferred: str) -> str:
    return network.free_address(net, [spec.address for spec in specs.every()], preferred)
