"""A piece of the host: what it should be, what it is, and the difference between the two."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Protocol

from mlflow_onprem.core.host import Host
from mlflow_onprem.core.secret import Secret

ABSENT = "absent"


@dataclass(frozen=True)
class Unknown:
    """A third answer beside "it is so" and "it is absent": it cannot be determined now.

    `hidden` is True where only the user's rights are missing: then nothing is known to change.
    """

    why: str
    hidden: bool = False


@dataclass(frozen=True)
class Text:
    """File content: equal by what it says, shown as a line-by-line diff."""

    value: str

    def __repr__(self) -> str:
        return f"Text({len(self.value)} characters)"


class Phase(IntEnum):
    """What a resource is for, in the order of an installation. A verb takes the phases it needs: `Stack.only`."""

    #: Folders, notes and secrets, before anything else.
    PREPARE = 1
    #: Accounts, packages, programs and environments, made beside what is in use, which goes on unharmed.
    BUILD = 2
    #: They come into use: store and PostgreSQL as configured and running, with bucket and databases.
    DATA = 3
    #: MLflow's settings, tables and unit: all but MLflow running.
    SCHEMA = 4
    #: MLflow runs, and what needs it running or its tables.
    SERVE = 5

    def and_before(self) -> frozenset[Phase]:
        """This phase and all that come before it."""
        return frozenset(each for each in Phase if each <= self)


class Resource(Protocol):
    """One piece of the host. `observe` only reads, `apply` only acts; the engine looks again afterwards.

    `want` is a frozen dataclass of exactly the fields we manage, or None: it must not exist.
    `holds_data` marks what uninstall keeps unless it is told to purge; `phase` what it is for, None outside the stack's lists.
    """

    @property
    def name(self) -> str: ...
    @property
    def want(self) -> Any: ...
    @property
    def holds_data(self) -> bool: ...
    @property
    def phase(self) -> Phase | None: ...
    def observe(self, host: Host) -> Any: ...
    def apply(self, host: Host, have: Any) -> None: ...


@dataclass(frozen=True)
class Base:
    """What every resource has. No behaviour is inherited, only these two fields' defaults."""

    holds_data: bool = field(default=False, kw_only=True)
    phase: Phase | None = field(default=None, kw_only=True)


def in_phase(phase: Phase, *resources: Resource) -> tuple[Resource, ...]:
    """The same resources, of that phase."""
    return tuple(dataclasses.replace(each, phase=phase) for each in resources)  # type: ignore[type-var]  # every resource is a dataclass


@dataclass(frozen=True)
class FieldChange:
    """One field, in words; secrets are already masked."""

    have: str
    want: str
    diff: tuple[str, ...] = ()


@dataclass(frozen=True)
class Change:
    """What would happen to one resource. `action` is create, update, delete, unknown or hidden."""

    resource: str
    action: str
    fields: Mapping[str, FieldChange]
    why: str = ""


def compare(resource: Resource, have: Any) -> Change | None:
    """None where the resource is unchanged, otherwise the change, field by field."""
    want = resource.want
    if isinstance(have, Unknown):
        return Change(resource.name, "hidden" if have.hidden else "unknown", {}, have.why)
    if have == want:
        return None
    if want is None:
        return Change(resource.name, "delete", {})
    action = "create" if have is None else "update"
    fields = {}
    for each in dataclasses.fields(want):
        new = getattr(want, each.name)
        old = ABSENT if have is None else getattr(have, each.name)
        if old != new and not (have is None and each.metadata.get("implied")):  # the resource's name says it already
            fields[each.name] = _field_change(old, new)
    return Change(resource.name, action, fields)


def _field_change(old: Any, new: Any) -> FieldChange:
    if isinstance(new, Secret) or isinstance(old, Secret):
        return FieldChange(ABSENT if old == ABSENT else "(secret)", "(secret changed)" if old != ABSENT else "(secret)")
    if isinstance(new, Text):
        before = "" if old == ABSENT else old.value
        lines = tuple(
            line.rstrip("\n") for line in difflib.unified_diff(before.splitlines(), new.value.splitlines(), "now", "wanted", lineterm="", n=1)
        )[2:]
        return FieldChange(ABSENT if old == ABSENT else f"{len(before.splitlines())} lines", f"{len(new.value.splitlines())} lines", lines)
    return FieldChange(show(old), show(new))


def show(value: Any) -> str:
    """A value as an administrator would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (tuple, list, frozenset, set)):
        items = sorted(value) if isinstance(value, (frozenset, set)) else value
        return ", ".join(show(item) for item in items) or "none"
    if value is None:
        return "none"
    return str(value)


@dataclass(frozen=True)
class Mode:
    """A file mode: an int that shows as octal."""

    value: int

    def __str__(self) -> str:
        return f"{self.value:04o}"
