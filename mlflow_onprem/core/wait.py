"""Waiting for something that no other program tells us of."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(ask: Callable[[], T], seconds: float, *, every: float = 0.05) -> T:
    """Ask, at least once, until the answer is true or `seconds` are over. Returns the last answer."""
    end = time.monotonic() + seconds
    while not (answer := ask()) and time.monotonic() < end:
        time.sleep(every)
    return answer
