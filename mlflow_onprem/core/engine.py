"""Loops over lists of resources: look, compare, act, look again. Independent lists run side by side."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from mlflow_onprem.core.errors import Interrupted, NotConverged, NotVisible, OnPremError, ResourceFailed
from mlflow_onprem.core.host import Host
from mlflow_onprem.core.resource import Change, Phase, Resource, Unknown, compare


@dataclass(frozen=True)
class Stack:
    """All resources of a host: `first`, then the `lanes` side by side, then `last`. Order within a list is its order.

    `names` are what progress calls the first and the last list.
    """

    first: tuple[Resource, ...] = ()
    lanes: Mapping[str, tuple[Resource, ...]] = field(default_factory=dict)
    last: tuple[Resource, ...] = ()
    names: tuple[str, str] = ("host", "last")

    def __iter__(self) -> Iterator[Resource]:
        yield from self.first
        for lane in self.lanes.values():
            yield from lane
        yield from self.last

    def groups(self) -> tuple[Mapping[str, tuple[Resource, ...]], ...]:
        """Lists that may run side by side, in the order in which they must run."""
        first, last = self.names
        return ({first: self.first}, self.lanes, {last: self.last})

    def only(self, phases: Collection[Phase]) -> Stack:
        """The same lists with the resources of these phases alone."""

        def kept(resources: tuple[Resource, ...]) -> tuple[Resource, ...]:
            return tuple(each for each in resources if each.phase in phases)

        lanes = {name: kept(lane) for name, lane in self.lanes.items()}
        return dataclasses.replace(self, first=kept(self.first), lanes=lanes, last=kept(self.last))


@dataclass(frozen=True)
class Event:
    """Progress of one resource. `kind` is start, settled or failed; `change` is None where nothing had to change."""

    kind: str
    lane: str
    resource: str
    change: Change | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What would change, what would not, and what this user may not see."""

    changes: tuple[Change, ...]
    unchanged: int
    hidden: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Report:
    """What was changed, in the order in which it happened."""

    changed: tuple[Change, ...]
    unchanged: int
    seconds: float


Watch = Callable[[Event], None]


def plan(host: Host, stack: Stack) -> Plan:
    """Look at every resource, change nothing."""
    lists = [resources for group in stack.groups() for resources in group.values()]
    with ThreadPoolExecutor(max_workers=max(len(lists), 1)) as pool:
        looked = [change for each in pool.map(lambda resources: [_look(host, r)[1] for r in resources], lists) for change in each]
    changes = tuple(change for change in looked if change is not None and change.action != "hidden")
    hidden = tuple(change for change in looked if change is not None and change.action == "hidden")
    return Plan(changes, sum(change is None for change in looked), hidden)


def converge(host: Host, stack: Stack, watch: Watch = lambda _: None, stop: threading.Event | None = None) -> Report:
    """Bring every resource to its wanted state. Where one fails, the lists beside it finish what they have in hand and stop.

    `stop` is set from outside to end after what is in hand.
    Raises ResourceFailed with the first failure, Interrupted where `stop` was set; running again resumes from there.
    """
    started = time.monotonic()
    stop = stop or threading.Event()
    changed: list[Change] = []
    unchanged = 0
    for group in stack.groups():
        failures: list[ResourceFailed] = []
        with ThreadPoolExecutor(max_workers=max(len(group), 1)) as pool:
            jobs = [pool.submit(_converge_list, host, lane, resources, watch, stop, changed, failures) for lane, resources in group.items()]
            try:
                unchanged += sum(job.result() for job in jobs)
            except BaseException:
                stop.set()
                raise
        if failures:
            first, *others = failures
            first.also = tuple(str(other) for other in others)
            raise first
        if stop.is_set():
            raise Interrupted("stopped before the end")  # what that leaves, and what goes on, is the verb's to say
    return Report(tuple(changed), unchanged, time.monotonic() - started)


def retire(resources: Iterable[Resource], *, with_data: bool) -> Stack:
    """The same resources wanted absent, in reverse; data stays unless `with_data`."""
    gone = [dataclasses.replace(r, want=None) for r in resources if with_data or not r.holds_data]  # type: ignore[type-var]  # every resource is a dataclass
    return Stack(first=tuple(reversed(gone)))


def _converge_list(
    host: Host,
    lane: str,
    resources: tuple[Resource, ...],
    watch: Watch,
    stop: threading.Event,
    changed: list[Change],
    failures: list[ResourceFailed],
) -> int:
    unchanged = 0
    for resource in resources:
        if stop.is_set() or failures:
            break
        watch(Event("start", lane, resource.name))
        started = time.monotonic()
        try:
            change = _settle(host, resource)
        except OnPremError as failed:
            failures.append(ResourceFailed(resource.name, failed))
            watch(Event("failed", lane, resource.name, seconds=time.monotonic() - started))
            break
        if change is None:
            unchanged += 1
        else:
            changed.append(change)
        watch(Event("settled", lane, resource.name, change, time.monotonic() - started))
    return unchanged


def _settle(host: Host, resource: Resource) -> Change | None:
    have, change = _look(host, resource)
    if change is None:
        return None
    if isinstance(have, Unknown):
        raise NotConverged(f"cannot determine its state: {have.why}", "run `mlflow-onprem doctor`, fix what it reports, then run this again")
    resource.apply(host, have)
    _, still = _look(host, resource)
    if still is not None:
        differing = ", ".join(f"{name}: {each.have} instead of {each.want}" for name, each in still.fields.items()) or still.why or still.action
        raise NotConverged(f"was applied, but the host still differs ({differing})", "something else on this host may be changing it back")
    return change


def _look(host: Host, resource: Resource) -> tuple[Any, Change | None]:
    try:
        have = resource.observe(host)
    except NotVisible as hidden:
        have = Unknown(str(hidden), hidden=True)
    return have, compare(resource, have)
