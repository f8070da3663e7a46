"""Which backups stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime


def kept(backups: Iterable[tuple[str, datetime, bool]], daily: int, weekly: int, monthly: int) -> frozenset[str]:
    """IDs to keep of (ID, time, proven): the newest of each of the last so many days, weeks and months that have one.

    Whatever the numbers are, the newest and the newest proven one stay.
    """
    newest_first = sorted(backups, key=lambda each: each[1], reverse=True)
    keep = {backup for backup, _, _ in newest_first[:1]} | {backup for backup, _, _ in [each for each in newest_first if each[2]][:1]}
    periods: tuple[tuple[int, Callable[[datetime], object]], ...] = (
        (daily, lambda when: when.date()),
        (weekly, lambda when: when.isocalendar()[:2]),
        (monthly, lambda when: (when.year, when.month)),
    )
    for count, period in periods:
        seen: dict[object, str] = {}
        for backup, when, _ in newest_first:
            seen.setdefault(period(when), backup)
        keep |= set(list(seen.values())[:count])
    return frozenset(keep)
