"""Admit requests by the limits of their key and their tenant: the seam `Limiter`.

    async with limiter.admit(caller, n_reserved_tokens) as admission:
        …
        admission.correct(n_tokens)

In: a caller and the most tokens that the request can take. Out: an admission, with OpenAI's headers x-ratelimit-*. Refused: 429
with Retry-After, the limit's name and the same headers. Tokens that are never corrected stay as reserved, unless the request fails:
then none were taken. Limits are read for each request, so a change counts at once.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.access.caller import Caller
from service.access.counters import Charge, Claim, ClaimResult, Counters, MemoryCounters, Unit
from service.access.quota import Quota
from service.service_error import ServiceError

MINUTE, DAY = 60.0, 86_400.0
_WHOSE = ("key", "tenant")


@dataclass
class QuotaAdmission:
    """One admitted request. `headers` are for its response."""

    headers: dict[str, str] = field(default_factory=dict[str, str])
    n_tokens: int | None = None

    def correct(self, n_tokens: int) -> None:
        """Say how many tokens the request has really taken."""
        self.n_tokens = max(0, n_tokens)


class QuotaLimiter:
    """Admits by quotas. `get_key_quota` and `get_tenant_quota` return the limits as they are now."""

    def __init__(
        self,
        counters: Counters,
        get_key_quota: Callable[[Caller], Quota],
        get_tenant_quota: Callable[[str], Quota] = lambda tenant: Quota(),
    ) -> None:
        self.counters = counters
        self._get_key_quota, self._get_tenant_quota = get_key_quota, get_tenant_quota

    @asynccontextmanager
    async def admit(self, caller: Caller, n_reserved_tokens: int) -> AsyncGenerator[QuotaAdmission]:
        """Admit a request while the context is open. Raises: ServiceError 429, or 503 if the counters can't be reached."""
        claim = self._make_claim(caller, n_reserved_tokens)
        if not claim.charges and not claim.places:
            yield QuotaAdmission()
            return
        verdict = await self.counters.claim(claim)
        headers = make_headers(claim, verdict)
        if verdict.refused is not None:
            raise _refuse(claim, verdict, headers)
        admission, is_answered = QuotaAdmission(headers), False
        try:
            yield admission
            is_answered = True
        finally:
            n_tokens = admission.n_tokens
            if n_tokens is None:
                n_tokens = n_reserved_tokens if is_answered else 0
            await self.counters.settle(claim, [n_tokens if c.unit == "tokens" else c.amount for c in claim.charges])

    async def close(self) -> None:
        """Release the connections of the counters."""
        await self.counters.close()

    def _make_claim(self, caller: Caller, n_tokens: int) -> Claim:
        charges: list[Charge] = []
        places: list[tuple[str, int]] = []
        quotas = (self._get_key_quota(caller) if caller.key_id else Quota(), self._get_tenant_quota(caller.tenant))
        for whose, quota in zip(_WHOSE, quotas, strict=True):
            key_id = caller.key_id if whose == "key" else ""
            name = f"{{{caller.tenant}}}:{key_id}:"  # braces: one tenant, one slot of a Redis cluster
            limits: tuple[tuple[Unit, str, int | None, float, int], ...] = (
                ("requests", "requests_per_minute", quota.requests_per_minute, MINUTE, 1),
                ("tokens", "tokens_per_minute", quota.tokens_per_minute, MINUTE, n_tokens),
                ("tokens", "tokens_per_day", quota.tokens_per_day, DAY, n_tokens),
            )
            charges += [
                Charge(name + limit, unit, capacity, seconds, amount)
                for unit, limit, capacity, seconds, amount in limits
                if capacity is not None
            ]
            if quota.concurrent is not None:
                places.append((f"{name}concurrent", quota.concurrent))
        return Claim(secrets.token_hex(12), tuple(charges), tuple(places))


def open_counters(setting: str = "memory") -> Counters:
    """Return the counters of a setting: `memory`, or redis://… (MINIGPT_COUNTERS where the setting is memory).

    Raises: ValueError for something else.
    """
    url = setting if setting != "memory" else os.environ.get("MINIGPT_COUNTERS") or "memory"
    if url == "memory":
        return MemoryCounters()
    from service.access.redis_counters import RedisCounters  # of the extra `cluster`, and slow to import

    return RedisCounters(url)


def make_headers(claim: Claim, verdict: ClaimResult) -> dict[str, str]:
    """Return OpenAI's headers: for requests and for tokens, those of the limit that has the smallest part left."""
    headers: dict[str, str] = {}
    for unit in ("requests", "tokens"):
        states = [
            (level / charge.capacity if charge.capacity else 0.0, charge, level)
            for charge, level in zip(claim.charges, verdict.levels, strict=True)
            if charge.unit == unit
        ]
        if states:
            _, charge, level = min(states, key=lambda state: state[0])
            missing = (
                (charge.capacity - level) * charge.seconds / charge.capacity if charge.capacity else charge.seconds
            )
            headers[f"x-ratelimit-limit-{unit}"] = str(charge.capacity)
            headers[f"x-ratelimit-remaining-{unit}"] = str(max(0, math.floor(level)))
            headers[f"x-ratelimit-reset-{unit}"] = format_duration(missing)
    return headers


def format_duration(seconds: float) -> str:
    """Return a duration as OpenAI writes it: 120ms, 1.5s, 6m0s, 1h2m3s."""
    if seconds < 1:
        return f"{max(0, math.ceil(seconds * 1000))}ms"
    if seconds < 60:
        return f"{math.ceil(seconds * 10) / 10:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def _refuse(claim: Claim, verdict: ClaimResult, headers: dict[str, str]) -> ServiceError:
    assert verdict.refused is not None
    number = verdict.refused
    charge = claim.charges[number] if number < len(claim.charges) else None
    name, capacity = (charge.name, charge.capacity) if charge else claim.places[number - len(claim.charges)]
    _, key_id, limit = name.split(":")
    whose = "key" if key_id else "tenant"
    if charge is not None and math.isinf(verdict.wait):
        return ServiceError(
            429,
            f"limits.{limit}: the request is larger than the limit of this {whose}; found {charge.amount} {charge.unit} and a "
            f"limit of {capacity}; ask for fewer tokens, or for a higher limit.",
            code="request_too_large",
            headers=headers,
        )
    found = f"{capacity} running" if charge is None else f"all of {capacity} used"
    return ServiceError(
        429,
        f"limits.{limit}: the limit of this {whose} is reached; found {found}; repeat the request in "
        f"{format_duration(verdict.wait)}.",
        code="rate_limit_exceeded",
        retry_after=float(math.ceil(verdict.wait)),
        headers=headers,
    )
