"""The counters of several processes, in Redis: each claim is one script, exact whatever runs at once.

Levels and leases are computed by the clock of the Redis server. If that is set back, nothing is lost but the seconds until the next
request; if it is set forward, at most one full bucket is won. A request's place is a lease that its process renews; the places of a
process that dies are free after LEASE_SECONDS. Without Redis nobody is admitted: 503. A name expires when its bucket is full again.
Needs Redis 5 or later (or Valkey). Time: one round trip.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Sequence
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError

from service.access.counters import Claim, ClaimResult
from service.service_error import ServiceError

LEASE_SECONDS = 30.0
TIMEOUT_SECONDS = 0.5  # and one repetition: a request fails within a second
PREFIX = "minigpt:"
_LOG = logging.getLogger(__name__)
# KEYS: buckets, then places. ARGV: number of buckets, lease, its milliseconds, then capacity, seconds, amount per bucket and the
# limit per place. Returns the number of what refuses (from 1; 0: granted), the wait (-1: for ever), the levels.
_CLAIM = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local n, lease, ttl = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local levels, refused, longest = {}, 0, 0
for i = 1, n do
  local capacity, seconds, amount = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2]), tonumber(ARGV[3 * i + 3])
  local stored = redis.call('HMGET', KEYS[i], 'level', 'at')
  local level = capacity
  if stored[1] then
    level = math.min(capacity, tonumber(stored[1]) + math.max(0, now - tonumber(stored[2])) * capacity / seconds)
  end
  levels[i] = level
  local wait = 0
  if amount > capacity then wait = math.huge elseif level < amount then wait = (amount - level) * seconds / capacity end
  if wait > longest then refused, longest = i, wait end
end
for i = n + 1, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  if redis.call('ZCARD', KEYS[i]) >= tonumber(ARGV[3 * n + 3 + i - n]) and longest < 1 then refused, longest = i, 1 end
end
if refused == 0 then
  for i = 1, n do
    local capacity, seconds = tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
    levels[i] = levels[i] - tonumber(ARGV[3 * i + 3])
    redis.call('HSET', KEYS[i], 'level', string.format('%.6f', levels[i]), 'at', string.format('%.6f', now))
    redis.call('PEXPIRE', KEYS[i], math.ceil((capacity - levels[i]) * seconds / math.max(capacity, 1) * 1000) + 60000)
  end
  for i = n + 1, #KEYS do
    redis.call('ZADD', KEYS[i], now + ttl / 1000, lease)
    redis.call('PEXPIRE', KEYS[i], ttl * 2)
  end
end
local texts = {}
for i = 1, n do texts[i] = string.format('%.6f', levels[i]) end
return {refused, longest == math.huge and '-1' or string.format('%.6f', longest), texts}
"""
# KEYS as above. ARGV: number of buckets, lease, then capacity, seconds, what is given back (negative: taken as well) per bucket.
_SETTLE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local n = tonumber(ARGV[1])
for i = 1, n do
  local capacity, seconds, change = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1]), tonumber(ARGV[3 * i + 2])
  local stored = redis.call('HMGET', KEYS[i], 'level', 'at')
  local level = capacity
  if stored[1] then
    level = math.min(capacity, tonumber(stored[1]) + math.max(0, now - tonumber(stored[2])) * capacity / seconds)
  end
  level = math.min(capacity, level + change)
  redis.call('HSET', KEYS[i], 'level', string.format('%.6f', level), 'at', string.format('%.6f', now))
  redis.call('PEXPIRE', KEYS[i], math.ceil((capacity - level) * seconds / math.max(capacity, 1) * 1000) + 60000)
end
for i = n + 1, #KEYS do redis.call('ZREM', KEYS[i], ARGV[2]) end
return 0
"""
# KEYS: places. ARGV: milliseconds of a lease, lease per place. A lease that has ended meanwhile is not made again.
_RENEW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], 'XX', now + tonumber(ARGV[1]) / 1000, ARGV[i + 1])
  redis.call('PEXPIRE', KEYS[i], tonumber(ARGV[1]) * 2)
end
return 0
"""


class RedisCounters:
    """Counters in a Redis server. Use it in one event loop."""

    def __init__(self, url: str, lease_seconds: float = LEASE_SECONDS) -> None:
        """Prepare; nothing is connected yet. Raises: ValueError for a URL that is none."""
        try:
            self._redis = Redis.from_url(
                url,
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                retry=Retry(ConstantBackoff(0.05), 1),
                health_check_interval=10,
            )
        except ValueError as error:  # not chained further: the URL can hold a password
            raise ValueError(
                "counters: must be memory or a URL redis://… of a Redis server; found something else; correct it."
            ) from error.__cause__
        self._lease_ms = int(lease_seconds * 1000)
        self._claim, self._settle, self._renew = (
            self._redis.register_script(script) for script in (_CLAIM, _SETTLE, _RENEW)
        )
        self._running: dict[str, Claim] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None

    async def claim(self, claim: Claim) -> ClaimResult:
        """Take all of a claim, or nothing. Raises: ServiceError 503."""
        arguments: list[Any] = [len(claim.charges), claim.lease, self._lease_ms]
        for charge in claim.charges:
            arguments += [charge.capacity, charge.seconds, charge.amount]
        arguments += [limit for _, limit in claim.places]
        try:
            answer = await cast(Awaitable[Any], self._claim(keys=_list_names(claim), args=arguments))
        except (RedisError, OSError, TimeoutError) as error:
            raise ServiceError(
                503,
                f"counters: Redis can't be used; found {type(error).__name__}; start it or check its address; repeat the request.",
                code="counters_unreachable",
                retry_after=1.0,
            ) from error
        refused, wait, levels = int(answer[0]), float(answer[1]), tuple(float(level) for level in answer[2])
        if refused:
            return ClaimResult(refused - 1, float("inf") if wait < 0 else wait, levels)
        if claim.places:
            self._running[claim.lease] = claim
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.create_task(self._keep_leases())
        return ClaimResult(None, 0.0, levels)

    async def settle(self, claim: Claim, amounts: Sequence[int]) -> None:
        """End a claim, also where the request's task is being cancelled: another task does it."""
        self._running.pop(claim.lease, None)
        task = asyncio.create_task(self._settle_now(claim, amounts))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for what is being settled, and close the connections."""
        if self._renewing is not None:
            self._renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewing
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._redis.aclose()

    async def _settle_now(self, claim: Claim, amounts: Sequence[int]) -> None:
        arguments: list[Any] = [len(claim.charges), claim.lease]
        for charge, amount in zip(claim.charges, amounts, strict=True):
            arguments += [charge.capacity, charge.seconds, charge.amount - amount]
        try:
            await cast(Awaitable[Any], self._settle(keys=_list_names(claim), args=arguments))
        except (RedisError, OSError, TimeoutError) as error:  # the lease ends by itself; what was reserved stays taken
            _LOG.warning("the tokens of a request are not corrected: Redis can't be used: %s", type(error).__name__)

    async def _keep_leases(self) -> None:
        """Renew the leases of this process, while there are any."""
        while self._running:
            await asyncio.sleep(self._lease_ms / 3000)
            places = [(name, claim.lease) for claim in self._running.values() for name, _ in claim.places]
            by_tenant: dict[str, list[tuple[str, str]]] = {}
            for name, lease in places:
                by_tenant.setdefault(name.partition(":")[0], []).append((name, lease))  # a script has keys of one slot
            for each in by_tenant.values():
                names, leases = [PREFIX + name for name, _ in each], [lease for _, lease in each]
                try:
                    await cast(Awaitable[Any], self._renew(keys=names, args=[self._lease_ms, *leases]))
                except (RedisError, OSError, TimeoutError) as error:
                    _LOG.warning("leases are not renewed: Redis can't be used: %s", type(error).__name__)


def _list_names(claim: Claim) -> list[str]:
    names = [charge.name for charge in claim.charges] + [name for name, _ in claim.places]
    return [PREFIX + name for name in names]
