"""How old each secret is, and which are due for a new value. Dates alone: `status` needs no root for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from mlflow_onprem.core.errors import ConfigError
from mlflow_onprem.settings import topology
from mlflow_onprem.settings.config import Config
from mlflow_onprem.settings.credentials import GROUPS, ROOT
from mlflow_onprem.settings.topology import ExternalPostgres, ExternalStore


def ours(config: Config) -> tuple[str, ...]:
    """The groups for which new values are generated here; those of services that are not ours come from the user's files."""
    theirs = isinstance(topology.store(config.minio), ExternalStore), isinstance(topology.postgres(config), ExternalPostgres)
    not_ours = [*([ROOT, "s3"] if theirs[0] else []), *(["postgres"] if theirs[1] else [])]
    return tuple(group for group in GROUPS if group not in not_ours)


def due(dates: Mapping[str, str], every: str | None, now: datetime | None = None) -> tuple[str, ...]:
    """The groups with a secret as old as `every` (90d, 12w), or of unknown age. Raises ConfigError where that is not set."""
    if every is None:
        raise ConfigError("--due needs [rotation] every in the configuration", 'for instance every = "90d"; or leave --due out')
    limit = (now or datetime.now(timezone.utc)) - timedelta(days=int(every[:-1]) * (7 if every[-1] == "w" else 1))
    return tuple(group for group in GROUPS if any(name not in dates or parse_date(dates[name]) <= limit for name in GROUPS[group]))


@dataclass(frozen=True)
class Age:
    """One secret: since when it is what it is, how many whole days that is, whether it is due (None where no age is set)."""

    name: str
    since: str
    days: int
    due: bool | None


def ages(dates: Mapping[str, str], config: Config, now: datetime | None = None) -> tuple[Age, ...]:
    """The secrets that this configuration has, oldest first."""
    today = now or datetime.now(timezone.utc)
    every = config.rotation.every
    old = due(dates, every, today) if every is not None else ()
    absent = [
        *(["minio-root-password"] if isinstance(topology.store(config.minio), ExternalStore) else []),
        *([] if config.mlflow.auth.enabled else ["mlflow-admin-password"]),
    ]
    found = [
        Age(name, dates[name], (today - parse_date(dates[name])).days, group in old if every is not None else None)
        for group in GROUPS
        for name in GROUPS[group]
        if name in dates and name not in absent
    ]
    return tuple(sorted(found, key=lambda each: each.since))


def parse_date(text: str) -> datetime:
    """A date as the credentials file has it."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
