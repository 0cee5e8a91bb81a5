"""Four times as many requests as the service can answer: 429 and 503 with Retry-After, and accepted ones that are not slow.

Measures what the service answers when `n_clients` clients ask one request after the other, and how long they wait. Then requests
arrive at `factor` times that rate, whatever comes back, for `seconds`. Reported: answers by status, refusals without Retry-After
(must be none), the 99th percentile of the accepted ones beside that of the first phase, and memory before and after.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from benchmarks.measure import Result
from benchmarks.serving.service_process import start_service

REFUSALS = (429, 503)


@dataclass
class Answers:
    """What came back: seconds of accepted requests, how many of each status, how many refusals did not say when to come back."""

    seconds: list[float] = field(default_factory=list[float])
    statuses: Counter[int] = field(default_factory=Counter[int])
    n_silent_refusals: int = 0

    def add(self, status: int, headers: bytes, seconds: float) -> None:
        self.statuses[status] += 1
        if status == 200:
            self.seconds.append(seconds)
        elif status in REFUSALS and b"retry-after:" not in headers.lower():
            self.n_silent_refusals += 1

    def get_percentile(self, frac: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(int(frac * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def run(
    *,
    model: Path | None = None,
    n_clients: int = 16,
    factor: float = 4.0,
    seconds: float = 60.0,
    max_tokens: int = 64,
    slots: int = 16,
    queue: int = 16,
) -> Result:
    """Measure both phases."""
    flags = ("--slots", str(slots), "--queue", str(queue))
    with (
        tempfile.TemporaryDirectory(prefix="minigpt-overload-") as folder,
        start_service(Path(folder), model, *flags) as service,
    ):
        process = psutil.Process(service.process.pid)
        asyncio.run(_ask_in_turn(service.url, n_clients, 3.0, max_tokens))  # compiles, warms up
        calm_seconds = min(10.0, seconds)
        calm = asyncio.run(_ask_in_turn(service.url, n_clients, calm_seconds, max_tokens))
        rate = len(calm.seconds) / calm_seconds
        before = process.memory_full_info().uss
        stormy = asyncio.run(_ask_at_rate(service.url, factor * rate, seconds, max_tokens))
        after = process.memory_full_info().uss
    statuses = {f"status {status}": float(count) for status, count in sorted(stormy.statuses.items())}
    row: dict[str, float | str | None] = {
        **statuses,
        "refusals without Retry-After": float(stormy.n_silent_refusals),
        "p50 ms": 1e3 * stormy.get_percentile(0.5),
        "p99 ms": 1e3 * stormy.get_percentile(0.99),
        "calm p50 ms": 1e3 * calm.get_percentile(0.5),
        "calm p99 ms": 1e3 * calm.get_percentile(0.99),
        "MB before": before / 1e6,
        "MB after": after / 1e6,
    }
    return Result(
        f"{factor:g} times {rate:.0f} requests/s for {seconds:.0f} s, {max_tokens} tokens each, {slots} slots, a queue of {queue}",
        "ms, p99 of accepted requests",
        1e3 * stormy.get_percentile(0.99),
        1e3 * calm.get_percentile(0.99),
        f"the same at {rate:.0f} requests/s",
        is_cost=True,
        details=[row],
    )


async def _ask(url: str, answers: Answers, number: int, max_tokens: int) -> None:
    """Send one request over a connection of its own, by hand: client libraries take more time than the service."""
    parts = urlsplit(url)
    body = json.dumps(
        {
            "model": "minigpt/direct",
            "messages": [{"role": "user", "content": f"Tell me about number {number}."}],
            "max_tokens": max_tokens,
            "temperature": 1.0,
            "seed": number,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    start = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
    except OSError:
        answers.add(0, b"", 0.0)
        return
    headers, _, _ = answer.partition(b"\r\n\r\n")
    status = int(headers.split(b" ", 2)[1]) if headers.startswith(b"HTTP/") else 0
    answers.add(status, headers, time.perf_counter() - start)


async def _ask_in_turn(url: str, n_clients: int, seconds: float, max_tokens: int) -> Answers:
    answers, end = Answers(), time.perf_counter() + seconds

    async def ask_again(client: int) -> None:
        number = client
        while time.perf_counter() < end:
            await _ask(url, answers, number, max_tokens)
            number += n_clients

    await asyncio.gather(*(ask_again(client) for client in range(n_clients)))
    return answers


async def _ask_at_rate(url: str, rate: float, seconds: float, max_tokens: int) -> Answers:
    answers, start, tasks = Answers(), time.perf_counter(), set[asyncio.Task[None]]()
    number = 0
    while (elapsed := time.perf_counter() - start) < seconds:
        while number < rate * elapsed:
            task = asyncio.create_task(_ask(url, answers, number, max_tokens))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    return answers
