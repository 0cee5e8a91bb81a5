"""The time of the service's rows. Rooms take `clock: Clock = now`, so that tests can pass another one.

Durations, deadlines and quotas use time.monotonic instead: a jump of the system's clock must not change them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now() -> datetime:
    """Return the time in UTC, with its time zone."""
    return datetime.now(UTC)
