"""Slow down whoever tries keys: failures per address, in a bounded table.

An address may fail `burst` times at once and then once every `seconds`. Until then it gets 429, also for a key that may be right,
but not for one that has been right before: those who share an address with an attacker go on working. IPv6 addresses count by their
/64, which is what one subscriber has. When the table is full, the address that failed longest ago is forgotten.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

MAX_ADDRESSES = 10_000
MAX_KNOWN = 100_000  # hashes of keys that were right


@dataclass
class FailedAttempts:
    """Failures of each address. Thread-safe."""

    burst: int = 10
    seconds: float = 6.0
    clock: Callable[[], float] = time.monotonic
    _full_at: OrderedDict[str, float] = field(default_factory=OrderedDict[str, float])  # when all attempts are back
    _known: OrderedDict[str, None] = field(default_factory=OrderedDict[str, None])
    _lock: Lock = field(default_factory=Lock)

    def get_delay(self, address: str, digest: str) -> float:
        """Return for how many seconds this address must wait before it tries this key: 0 for a key that was right before."""
        with self._lock:
            if digest in self._known:
                return 0.0
            owed = self._full_at.get(_group(address), 0.0) - self.clock()
        return max(0.0, owed - (self.burst - 1) * self.seconds)

    def add_failure(self, address: str) -> None:
        """Count a failure."""
        name, now = _group(address), self.clock()
        with self._lock:
            self._full_at[name] = max(now, self._full_at.get(name, 0.0)) + self.seconds
            self._full_at.move_to_end(name)
            while len(self._full_at) > MAX_ADDRESSES:
                self._full_at.popitem(last=False)

    def add_success(self, digest: str) -> None:
        """Remember that a key was right. It is still looked up each time."""
        with self._lock:
            self._known[digest] = None
            self._known.move_to_end(digest)
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)


def _group(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:80]
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
