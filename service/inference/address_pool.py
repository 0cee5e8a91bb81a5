"""Choose among several addresses of the same part: the least busy one that works; one that died is tried again soon.

Pure bookkeeping with a clock; it sends nothing. An address that failed is *down* for half a second, twice as long after each
further failure, at most two seconds: so a restarted one is in use again within three. Addresses that are down are still listed,
last: where nothing else is left, the caller tries them, and a refused connection takes no time. Thread-safe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from urllib.parse import urlsplit

FIRST_DOWN_SECONDS = 0.5
MAX_DOWN_SECONDS = 2.0


@dataclass
class _Address:
    url: str
    n_open: int = 0
    n_failures: int = 0
    down_until: float = 0.0


class AddressPool:
    """The addresses of one part, in the order in which they were named."""

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._addresses = [_Address(url) for url in dict.fromkeys(urls)]
        self._clock, self._lock, self._turn = clock, Lock(), 0

    def list_candidates(self) -> list[str]:
        """Return all addresses, the best first: working ones by their open requests, in turn; then those that are down."""
        with self._lock:
            now, n = self._clock(), len(self._addresses)
            self._turn += 1
            turned = [self._addresses[(number + self._turn) % n] for number in range(n)]
            ordered = sorted(turned, key=lambda each: (max(each.down_until - now, 0.0), each.n_open))
            return [each.url for each in ordered]

    @property
    def n_working(self) -> int:
        """How many addresses are not down."""
        with self._lock:
            return sum(each.down_until <= self._clock() for each in self._addresses)

    def report(self, url: str, *, works: bool) -> None:
        """Note that a request to an address got an answer, or that it failed."""
        with self._lock:
            for each in self._addresses:
                if each.url == url:
                    each.n_failures = 0 if works else each.n_failures + 1
                    seconds = min(FIRST_DOWN_SECONDS * 2 ** max(each.n_failures - 1, 0), MAX_DOWN_SECONDS)
                    each.down_until = 0.0 if works else self._clock() + seconds

    @contextmanager
    def occupy(self, url: str) -> Generator[None]:
        """Count a request as open while it runs."""
        chosen = [each for each in self._addresses if each.url == url]
        with self._lock:
            for each in chosen:
                each.n_open += 1
        try:
            yield
        finally:
            with self._lock:
                for each in chosen:
                    each.n_open -= 1


def check_address(url: str, name: str) -> str:
    """Return an address without its last slash. Raises: ValueError for anything but http(s)://HOST[:PORT][/PATH]."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_good = False
        parts = urlsplit("")
    if not is_good or parts.query or parts.fragment or parts.username or parts.password:
        found = "credentials in it" if "@" in url else repr(url[:80])  # secrets are not repeated
        raise ValueError(f"{name} must be an address; found {found}; write it as http://HOST:PORT.")
    return url.rstrip("/")
