"""Count what keys and tenants use: buckets that refill, and leases of requests that run.

A bucket holds `capacity` and refills in `seconds`: a minute's limit may be used at once and comes back evenly. What a request may
take is reserved when it is admitted and corrected when it ends, so a level can be negative. All of a claim is taken, or nothing.
`MemoryCounters` serves one process, by time.monotonic, so a jump of the clock changes nothing; `RedisCounters` (redis_counters.py)
serves many. Time: 5 µs. Memory: a bucket that is full again is forgotten.
Does not cover: a restart, after which the counters of one process are full; Redis keeps them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Literal, Protocol

Unit = Literal["requests", "tokens", "concurrent"]
PRUNE_ABOVE = 10_000  # buckets


@dataclass(frozen=True)
class Charge:
    """What is taken from one bucket. `name` is the bucket's; `amount` may be more than its capacity, which is refused."""

    name: str
    unit: Unit
    capacity: int
    seconds: float
    amount: int


@dataclass(frozen=True)
class Claim:
    """What a request needs: from buckets, and a place among those that run (`places`: name → how many may run)."""

    lease: str
    charges: tuple[Charge, ...] = ()
    places: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class ClaimResult:
    """What became of a claim. `refused` is the number of the charge or place (after the charges) with the longest wait, None if the
    claim was granted; `wait` in seconds, infinite where waiting does not help. `levels` are those of the charges, afterwards."""

    refused: int | None
    wait: float
    levels: tuple[float, ...]


class Counters(Protocol):
    """Counts claims."""

    async def claim(self, claim: Claim) -> ClaimResult:
        """Take all of a claim, or nothing. Raises: ServiceError 503 if the counters can't be reached."""
        ...

    async def settle(self, claim: Claim, amounts: Sequence[int]) -> None:
        """End a claim: its place is free, and of each bucket it has taken `amounts` instead of what was reserved. Never raises, and
        is not cancelled: a request that has ended can't fail any more."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


@dataclass
class _Level:
    level: float
    at: float


@dataclass
class MemoryCounters:
    """The counters of one process. Thread-safe; nothing is awaited."""

    clock: Callable[[], float] = time.monotonic
    _levels: dict[str, _Level] = field(default_factory=dict[str, _Level])
    _full_at: dict[str, float] = field(default_factory=dict[str, float])
    _running: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    _lock: Lock = field(default_factory=Lock)

    async def claim(self, claim: Claim) -> ClaimResult:
        """Take all of a claim, or nothing."""
        with self._lock:
            now = self.clock()
            levels = [self._refill(charge, now) for charge in claim.charges]
            waits = [get_wait(charge, level) for charge, level in zip(claim.charges, levels, strict=True)] + [
                1.0 if len(self._running.get(name, ())) >= limit else 0.0 for name, limit in claim.places
            ]
            if (verdict := refuse(waits, levels)) is not None:
                return verdict
            for charge, level in zip(claim.charges, levels, strict=True):
                self._store(charge, level - charge.amount, now)
            for name, _ in claim.places:
                self._running.setdefault(name, set()).add(claim.lease)
            return ClaimResult(
                None, 0.0, tuple(level - charge.amount for charge, level in zip(claim.charges, levels, strict=True))
            )

    async def settle(self, claim: Claim, amounts: Sequence[int]) -> None:
        """End a claim."""
        with self._lock:
            now = self.clock()
            for charge, amount in zip(claim.charges, amounts, strict=True):
                self._store(charge, min(charge.capacity, self._refill(charge, now) + charge.amount - amount), now)
            for name, _ in claim.places:
                running = self._running.get(name, set())
                running.discard(claim.lease)
                if not running:
                    self._running.pop(name, None)
            if len(self._levels) > PRUNE_ABOVE:
                self._prune(now)

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def _refill(self, charge: Charge, now: float) -> float:
        stored = self._levels.get(charge.name)
        if stored is None:
            return charge.capacity
        refilled = stored.level + max(0.0, now - stored.at) * charge.capacity / charge.seconds
        return min(charge.capacity, refilled)

    def _store(self, charge: Charge, level: float, now: float) -> None:
        self._levels[charge.name] = _Level(level, now)
        missing = charge.capacity - level
        self._full_at[charge.name] = now + max(0.0, missing * charge.seconds / max(charge.capacity, 1))

    def _prune(self, now: float) -> None:
        for name in [name for name, full_at in self._full_at.items() if full_at <= now]:
            del self._levels[name], self._full_at[name]


def get_wait(charge: Charge, level: float) -> float:
    """Return in how many seconds a charge fits: 0 now, infinite never."""
    if charge.amount > charge.capacity:
        return float("inf")
    return max(0.0, (charge.amount - level) * charge.seconds / charge.capacity) if charge.capacity else 0.0


def refuse(waits: Sequence[float], levels: Sequence[float]) -> ClaimResult | None:
    """Return the refusal by the longest wait, None if nothing has to wait."""
    longest = max(waits, default=0.0)
    return ClaimResult(list(waits).index(longest), longest, tuple(levels)) if longest > 0 else None
