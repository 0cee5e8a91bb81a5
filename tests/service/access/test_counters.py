"""Counters in memory and in a real Valkey (Redis): exact under concurrency, by a clock that no jump changes."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from service.access.counters import PRUNE_ABOVE, Charge, Claim, Counters, MemoryCounters
from service.access.redis_counters import PREFIX, RedisCounters
from service.service_error import ServiceError
from tests.conftest import ROOT
from tests.service.conftest import ValkeyServer

MakeCounters = Callable[[], Counters]
NEVER = 1e9  # seconds of a bucket that does not refill while a test runs


@pytest.fixture(params=["memory", "redis"])
def make_counters(request: pytest.FixtureRequest) -> MakeCounters:
    if request.param == "memory":
        return MemoryCounters
    server: ValkeyServer = request.getfixturevalue("valkey")
    return lambda: RedisCounters(server.url)


def run(make: MakeCounters, test: Callable[[Counters], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        counters = make()
        try:
            await test(counters)
        finally:
            await counters.close()

    asyncio.run(main())


def claim(
    lease: str, amount: int = 1, capacity: int = 10, seconds: float = NEVER, n_places: int | None = None
) -> Claim:
    places = () if n_places is None else (("{a}::concurrent", n_places),)
    return Claim(lease, (Charge("{a}::tokens", "tokens", capacity, seconds, amount),), places)


def test_a_claim_takes_all_or_nothing(make_counters: MakeCounters) -> None:
    async def test(counters: Counters) -> None:
        both = Claim("1", (Charge("{a}::x", "requests", 5, NEVER, 1), Charge("{a}::y", "tokens", 10, NEVER, 7)))
        first = await counters.claim(both)
        assert (first.refused, [round(level, 3) for level in first.levels]) == (None, [4, 3])
        second = await counters.claim(both)
        assert second.refused == 1
        assert second.wait == pytest.approx(4 / 10 * NEVER, rel=1e-3)
        assert [round(level, 3) for level in second.levels] == [4, 3]

    run(make_counters, test)


def test_what_was_reserved_is_corrected(make_counters: MakeCounters) -> None:
    async def test(counters: Counters) -> None:
        await counters.claim(claim("1", 8))
        await counters.settle(claim("1", 8), [3])
        assert (await counters.claim(claim("2", 7))).refused is None
        await counters.settle(claim("2", 7), [9])  # more than was reserved: a debt
        refused = await counters.claim(claim("3", 1))
        assert refused.refused == 0
        assert round(refused.levels[0]) == -2
        await counters.settle(claim("4", 8), [0])  # never above the capacity
        await counters.settle(claim("5", 8), [0])
        assert round((await counters.claim(claim("6", 0))).levels[0]) == 10

    run(make_counters, test)


def test_a_bucket_refills_evenly(make_counters: MakeCounters) -> None:
    async def test(counters: Counters) -> None:
        fast = claim("1", 10, 10, seconds=0.5)
        assert (await counters.claim(fast)).refused is None
        refused = await counters.claim(claim("2", 5, 10, seconds=0.5))
        assert refused.refused == 0
        assert 0.15 < refused.wait <= 0.25
        await asyncio.sleep(refused.wait + 0.02)
        assert (await counters.claim(claim("3", 5, 10, seconds=0.5))).refused is None

    run(make_counters, test)


def test_what_is_larger_than_the_limit_never_fits(make_counters: MakeCounters) -> None:
    async def test(counters: Counters) -> None:
        verdict = await counters.claim(claim("1", 11))
        assert (verdict.refused, verdict.wait) == (0, math.inf)
        assert (await counters.claim(claim("2", 1, capacity=0))).wait == math.inf
        await counters.settle(claim("3", 0, capacity=0), [5])
        assert (await counters.claim(Claim("4", (), (("{a}::concurrent", 0),)))).refused == 0

    run(make_counters, test)


def test_places_are_exact_when_many_ask_at_once(make_counters: MakeCounters) -> None:
    async def test(counters: Counters) -> None:
        claims = [claim(str(number), 0, n_places=7) for number in range(50)]
        verdicts = await asyncio.gather(*map(counters.claim, claims))
        granted = [each for each, verdict in zip(claims, verdicts, strict=True) if verdict.refused is None]
        assert len(granted) == 7
        for each in granted:
            await counters.settle(each, [0])
        assert (await counters.claim(claim("last", 0, n_places=1))).refused is None

    run(make_counters, test)


def test_tokens_are_exact_when_many_ask_at_once(make_counters: MakeCounters) -> None:
    async def test(counters: Counters) -> None:
        verdicts = await asyncio.gather(*(counters.claim(claim(str(number), 3, 100)) for number in range(60)))
        assert sum(verdict.refused is None for verdict in verdicts) == 33

    run(make_counters, test)


@given(
    st.lists(st.tuples(st.sampled_from(["claim", "settle", "wait"]), st.integers(0, 12), st.floats(0, 30)), max_size=30)
)
def test_no_sequence_takes_more_than_the_rate_allows(steps: list[tuple[str, int, float]]) -> None:
    """In t seconds at most capacity + t · rate is taken, and a level is never above the capacity."""
    now, counters, n_taken, capacity = [0.0], MemoryCounters(lambda: now[0]), 0, 10
    running: list[Claim] = []

    async def main() -> None:
        nonlocal n_taken
        for number, (action, amount, seconds) in enumerate(steps):
            if action == "wait":
                now[0] += seconds
            elif action == "claim":
                each = claim(str(number), amount, capacity, 60.0)
                verdict = await counters.claim(each)
                if verdict.refused is None:
                    running.append(each)
                    n_taken += amount
                    assert verdict.levels[0] >= -1e-9
                elif math.isfinite(verdict.wait):
                    now[0] += verdict.wait + 1e-6
                    assert (await counters.claim(each)).refused is None  # the wait that was named is enough
                    n_taken += amount
            elif running:
                each = running.pop()
                kept = min(amount, each.charges[0].amount)
                n_taken += kept - each.charges[0].amount
                await counters.settle(each, [kept])
            assert n_taken <= capacity + now[0] * capacity / 60 + 1e-6

    asyncio.run(main())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=12))
def test_both_counters_agree(valkey_server: ValkeyServer, steps: list[tuple[bool, int]]) -> None:
    async def trace(counters: Counters) -> list[Any]:
        results: list[Any] = []
        for number, (is_claim, amount) in enumerate(steps):
            each = claim(str(number), amount, n_places=3)
            if is_claim:
                verdict = await counters.claim(each)
                results.append((verdict.refused, [round(level, 2) for level in verdict.levels]))
            else:
                await counters.settle(claim(str(number - 1), 5, n_places=3), [amount])
        await counters.close()
        return results

    with Redis.from_url(valkey_server.url) as client:
        client.flushall()
    assert asyncio.run(trace(MemoryCounters())) == asyncio.run(trace(RedisCounters(valkey_server.url)))


def test_a_jump_of_the_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(counters: Counters) -> None:
        await counters.claim(claim("1", 10, seconds=60.0))
        for jump in (-1e9, 1e9):
            real = time.time()
            monkeypatch.setattr(time, "time", lambda jump=jump, real=real: real + jump)
            assert (await counters.claim(claim("2", 1, seconds=60.0))).refused == 0

    run(MemoryCounters, test)


def test_full_buckets_are_forgotten() -> None:
    now = [0.0]
    counters = MemoryCounters(lambda: now[0])

    async def main() -> None:
        for number in range(PRUNE_ABOVE + 100):
            each = Claim("1", (Charge(f"{{{number}}}::x", "requests", 10, 60.0, 1),))
            await counters.claim(each)
        now[0] = 6.1  # the first ones are full again
        busy = Claim("1", (Charge("{busy}::x", "requests", 10, 60.0, 9),))
        await counters.claim(busy)
        await counters.settle(busy, [9])
        assert list(counters._levels) == ["{busy}::x"]

    asyncio.run(main())


def test_two_processes_share_what_is_left(valkey: ValkeyServer) -> None:
    async def main() -> None:
        here, there = RedisCounters(valkey.url), RedisCounters(valkey.url)
        verdicts = await asyncio.gather(
            *(counters.claim(claim(f"{number}", 1, 20)) for number in range(20) for counters in (here, there))
        )
        assert sum(verdict.refused is None for verdict in verdicts) == 20
        await here.close()
        await there.close()

    asyncio.run(main())


def test_a_killed_process_gives_its_places_back(valkey: ValkeyServer) -> None:
    program = (
        "import asyncio, sys\n"
        "from service.access.redis_counters import RedisCounters\n"
        "from tests.service.access.test_counters import claim\n"
        "async def main():\n"
        "    counters = RedisCounters(sys.argv[1], lease_seconds=0.6)\n"
        "    assert (await counters.claim(claim('theirs', 0, n_places=1))).refused is None\n"
        "    print('running', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, valkey.url], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"running\n"

    async def main() -> None:
        counters = RedisCounters(valkey.url, lease_seconds=0.6)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:  # longer than a lease, which is renewed
            assert (await counters.claim(claim("ours", 0, n_places=1))).refused == 1
            await asyncio.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        end = time.monotonic() + 10
        while (await counters.claim(claim("ours", 0, n_places=1))).refused is not None:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
        await counters.close()

    asyncio.run(main())
    process.wait()
    process.stdout.close()


def test_a_cancelled_request_is_settled_all_the_same(valkey: ValkeyServer) -> None:
    async def main() -> None:
        counters = RedisCounters(valkey.url)
        each = claim("1", 5, n_places=1)
        await counters.claim(each)
        task = asyncio.create_task(counters.settle(each, [0]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await counters.close()

    asyncio.run(main())
    with Redis.from_url(valkey.url) as client:
        assert client.zcard(f"{PREFIX}{{a}}::concurrent") == 0
        assert float(client.hget(f"{PREFIX}{{a}}::tokens", "level") or 0) == 10


def test_every_name_in_redis_expires(valkey: ValkeyServer) -> None:
    async def test(counters: Counters) -> None:
        await counters.claim(claim("1", 5, seconds=60.0, n_places=2))
        with Redis.from_url(valkey.url) as client:
            assert {client.ttl(name) > 0 for name in client.keys("*")} == {True}

    run(lambda: RedisCounters(valkey.url), test)


def test_without_redis_nobody_is_admitted_and_it_comes_back(valkey: ValkeyServer) -> None:
    async def main() -> None:
        counters = RedisCounters(valkey.url)
        await counters.claim(claim("1", 1))
        valkey.stop()
        started = time.monotonic()
        with pytest.raises(ServiceError, match="Redis can't be used") as error:
            await counters.claim(claim("2", 1))
        await counters.settle(claim("1", 1), [1])  # logged, not raised
        assert time.monotonic() - started < 3
        assert (error.value.status, error.value.code) == (503, "counters_unreachable")
        valkey.start()
        assert (await counters.claim(claim("3", 1))).refused is None
        await counters.close()

    asyncio.run(main())


@pytest.mark.parametrize("url", ["http://user:hunter2@host", "nonsense", "redis"])
def test_an_address_of_something_else_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="counters: must be memory or a URL") as error:
        RedisCounters(url)
    assert "hunter2" not in repr(error.value) + repr(error.value.__cause__)
