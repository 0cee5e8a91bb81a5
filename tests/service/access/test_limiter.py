"""The limits of keys and tenants: 429 with Retry-After and OpenAI's headers."""

from __future__ import annotations

import asyncio
import re

import pytest

from service.access.caller import Caller
from service.access.counters import MemoryCounters
from service.access.limiter import QuotaLimiter, format_duration, open_counters
from service.access.quota import Quota
from service.answers.interfaces import Admission, Limiter
from service.service_error import ServiceError

ANN = Caller("acme", "ann", "key_ann")
BOB = Caller("acme", "bob", "key_bob")


def make_limiter(key: Quota, tenant: Quota | None = None, counters: MemoryCounters | None = None) -> QuotaLimiter:
    return QuotaLimiter(counters or MemoryCounters(), lambda caller: key, lambda name: tenant or Quota())


async def admit(limiter: Limiter, caller: Caller = ANN, n_reserved: int = 0, n_tokens: int | None = None) -> Admission:
    async with limiter.admit(caller, n_reserved) as admission:
        if n_tokens is not None:
            admission.correct(n_tokens)
    return admission


async def get_refusal(limiter: Limiter, caller: Caller = ANN, n_reserved: int = 0) -> ServiceError:
    with pytest.raises(ServiceError) as error:
        await admit(limiter, caller, n_reserved)
    return error.value


def test_requests_per_minute_and_their_headers() -> None:
    async def main() -> None:
        now = [0.0]
        limiter = make_limiter(Quota(requests_per_minute=2), counters=MemoryCounters(lambda: now[0]))
        first = await admit(limiter)
        assert first.headers == {
            "x-ratelimit-limit-requests": "2",
            "x-ratelimit-remaining-requests": "1",
            "x-ratelimit-reset-requests": "30s",
        }
        await admit(limiter)
        refusal = await get_refusal(limiter)
        assert (refusal.status, refusal.code, refusal.retry_after) == (429, "rate_limit_exceeded", 30)
        assert "limits.requests_per_minute: the limit of this key is reached; found all of 2 used" in refusal.message
        assert refusal.headers["x-ratelimit-remaining-requests"] == "0"
        now[0] = 30.0  # what Retry-After says is enough
        await admit(limiter)

    asyncio.run(main())


def test_tokens_are_reserved_then_corrected() -> None:
    async def main() -> None:
        limiter = make_limiter(Quota(tokens_per_minute=100))
        async with limiter.admit(ANN, 90) as admission:
            assert admission.headers["x-ratelimit-remaining-tokens"] == "10"
            assert (await get_refusal(limiter, n_reserved=20)).code == "rate_limit_exceeded"
            admission.correct(30)
        assert (await admit(limiter, n_reserved=60)).headers["x-ratelimit-remaining-tokens"] == "10"
        refusal = await get_refusal(limiter, n_reserved=101)
        assert (refusal.code, refusal.retry_after) == ("request_too_large", None)

    asyncio.run(main())


def test_a_failed_request_takes_no_tokens_and_one_without_correction_all() -> None:
    async def fail(limiter: QuotaLimiter) -> None:
        async with limiter.admit(ANN, 100):
            raise ZeroDivisionError

    async def main() -> None:
        limiter = make_limiter(Quota(tokens_per_minute=100, concurrent=1))
        with pytest.raises(ZeroDivisionError):
            await fail(limiter)
        await admit(limiter, n_reserved=100)
        assert (await get_refusal(limiter, n_reserved=1)).code == "rate_limit_exceeded"

    asyncio.run(main())


def test_the_tokens_of_a_day() -> None:
    async def main() -> None:
        now = [0.0]
        limiter = make_limiter(Quota(tokens_per_day=86_400), counters=MemoryCounters(lambda: now[0]))
        await admit(limiter, n_reserved=86_400, n_tokens=86_400)
        refusal = await get_refusal(limiter, n_reserved=3_600)
        assert refusal.retry_after == 3_600
        assert "repeat the request in 60m0s" in refusal.message or "1h0m0s" in refusal.message
        now[0] = 3_600.0
        await admit(limiter, n_reserved=3_600)

    asyncio.run(main())


def test_concurrent_requests_whatever_their_end() -> None:
    async def main() -> None:
        limiter = make_limiter(Quota(concurrent=2))
        started, end = asyncio.Event(), asyncio.Event()

        async def run_long() -> None:
            async with limiter.admit(ANN, 0):
                started.set()
                await end.wait()

        tasks = [asyncio.create_task(run_long()) for _ in range(2)]
        await started.wait()
        await asyncio.sleep(0)
        refusal = await get_refusal(limiter)
        assert "limits.concurrent: the limit of this key is reached; found 2 running" in refusal.message
        assert refusal.retry_after == 1
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
        await admit(limiter)
        end.set()
        await tasks[1]

    asyncio.run(main())


def test_keys_are_apart_and_a_tenant_is_their_sum() -> None:
    async def main() -> None:
        limiter = make_limiter(Quota(requests_per_minute=2), Quota(requests_per_minute=3))
        for caller in (ANN, ANN, BOB):
            await admit(limiter, caller)
        assert "of this tenant is reached" in (await get_refusal(limiter, BOB)).message
        await admit(limiter, Caller("other", "ann", "key_other"))

    asyncio.run(main())


def test_a_request_that_the_tenant_refuses_costs_the_key_nothing() -> None:
    async def main() -> None:
        tenant = [Quota(requests_per_minute=0)]
        limiter = QuotaLimiter(MemoryCounters(), lambda caller: Quota(requests_per_minute=1), lambda name: tenant[0])
        for _ in range(3):
            await get_refusal(limiter)
        tenant[0] = Quota()  # a changed limit counts at once
        await admit(limiter)
        assert "of this key is reached" in (await get_refusal(limiter)).message

    asyncio.run(main())


def test_without_limits_there_are_no_headers_and_no_counters() -> None:
    async def main() -> None:
        limiter = make_limiter(Quota())
        assert (await admit(limiter, n_reserved=10**9)).headers == {}
        without_keys = make_limiter(Quota(requests_per_minute=0))
        assert (await admit(without_keys, Caller())).headers == {}

    asyncio.run(main())


def test_the_headers_show_what_is_most_nearly_used_up() -> None:
    async def main() -> None:
        limiter = make_limiter(Quota(tokens_per_minute=1000, tokens_per_day=10_000), Quota(tokens_per_day=200))
        assert (await admit(limiter, n_reserved=150)).headers["x-ratelimit-limit-tokens"] == "200"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0001, "1ms"), (0.1201, "121ms"), (1, "1s"), (1.42, "1.5s"), (60, "1m0s"), (3661.2, "1h1m2s")],
)
def test_durations_are_written_as_openai_does_and_never_too_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    parts = re.findall(r"([\d.]+)(ms|h|m|s)", text)
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    assert sum(float(number) * units[unit] for number, unit in parts) >= seconds


def test_the_setting_names_the_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MINIGPT_COUNTERS", raising=False)
    assert isinstance(open_counters(), MemoryCounters)
    monkeypatch.setenv("MINIGPT_COUNTERS", "redis://host/0")
    assert not isinstance(open_counters(), MemoryCounters)
