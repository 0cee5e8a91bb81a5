"""A Redis server as the index needs it: one pool, its errors in three parts, a lock, many commands in one journey.

In: a URL. Out: answers as bytes. The password is never shown; it may come from MINIGPT_REDIS_PASSWORD instead of the URL.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import UserError

SCHEMES = ("redis://", "rediss://", "unix://")
LEASE_SECONDS = 120.0  # a batch of 2,048 long documents takes less
CONNECT_SECONDS, ANSWER_SECONDS = 5, 300


class Connection:
    """`client` and `pool` are redis-py's; nothing is sent before the first command."""

    def __init__(self, url: str) -> None:
        self.place = masked(url)
        try:
            import redis
            from redis.exceptions import RedisError
        except ModuleNotFoundError as error:
            raise UserError(
                f"near_index: {self.place} needs a package", "no redis", 'pip install ".[redis]"'
            ) from error
        password = os.environ.get("MINIGPT_REDIS_PASSWORD")
        options: dict[str, Any] = {"password": password} if password else {}
        try:
            self.pool: Any = redis.ConnectionPool.from_url(
                url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS, **options
            )
        except ValueError:  # its message may hold the password
            raise UserError(
                f"near_index: {self.place} is no URL of a server", "another form", "write redis://host:port/0"
            ) from None
        self.client: Any = redis.Redis(connection_pool=self.pool)
        self._errors: Any = (RedisError, OSError)

    def many(self, command: str, keys: Sequence[bytes], values: Sequence[Any] | None = None) -> list[Any]:
        """One command for each key, in one journey."""
        with self.client.pipeline(transaction=False) as pipe:
            for i, key in enumerate(keys):
                getattr(pipe, command)(key, *([] if values is None else [values[i]]))
            return pipe.execute()

    @contextmanager
    def talking(self) -> Generator[None]:
        """What goes wrong inside is said to a person. Connections end with it."""
        try:
            yield
        except self._errors as error:
            raise UserError(
                f"near_index: {self.place} does not answer as it should",
                f"{type(error).__name__}: {error}",
                "start the server, or correct the place and MINIGPT_REDIS_PASSWORD",
            ) from error
        finally:
            self.pool.disconnect()

    @contextmanager
    def locked(self, name: bytes) -> Generator[Any]:
        """redis-py's lock, held for `LEASE_SECONDS` after the last `reacquire`. Raises `UserError` when another holds it."""
        lock = self.client.lock(name, timeout=LEASE_SECONDS, thread_local=False)
        if not lock.acquire(blocking=False):
            raise UserError(
                f"near_index: {self.place} is being written to",
                "another process holds its lock",
                f"wait for it, or {LEASE_SECONDS:.0f} s if it was killed",
            )
        try:
            yield lock
        finally:
            if lock.owned():
                lock.release()


def masked(place: str) -> str:
    """A place as people may see it: no name, no password, no options."""
    if "://" not in place:
        return place
    try:
        parts = urlsplit(place)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return f"{place.partition('://')[0]}://***"
    return f"{parts.scheme}://{'***@' if '@' in parts.netloc else ''}{host}{parts.path}"
