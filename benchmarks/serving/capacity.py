"""Users to cores: the processor time of one answer of the service, and how many people a number of cores serves.

Asks a running service (its own, on the champion) the questions of a working day: documentation, arithmetic, units, small talk, each
once more in the same conversation. An answer's cost is the processor time of the whole service over the number of answers, which
other programs on the machine hardly change. People who work ask one question in `seconds_between`; cores are filled to
`utilization`, so that a queue stays short (of the M/M/c queue with 4 cores, 60 % leave a wait of 7 % of an answer's time).
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.measure import Result, Row
from benchmarks.serving.service_process import start_service

QUESTIONS = (
    ("What does numpy.linalg.norm do?", "Which parameters does it have?"),
    ("How do I read a CSV file with pandas?", "And write one?"),
    ("What is 1234 * 77?", "And divided by 3?"),
    ("Convert 5 kg to pounds", "and 7 kg?"),
    ("Hello! Who are you?", "What can you do?"),
    ("What is torch.nn.Linear?", "Where is that from?"),
)
USERS = (10, 50, 200, 1_000, 5_000)


@dataclass(frozen=True)
class Cost:
    """What the answers took. Memory without the pages of mapped files, which the system takes back when it needs them."""

    n_answers: int
    cpu_seconds: float
    wall_seconds: float
    n_tokens: int
    memory_bytes: int


def run(
    *,
    model: Path | None = None,
    n_clients: int = 8,
    n_answers: int = 96,
    seconds_between: float = 60.0,
    utilization: float = 0.6,
    weights: str = "float32",
) -> Result:
    """Measure the cost of an answer and compute the cores for numbers of users."""
    with (
        tempfile.TemporaryDirectory(prefix="minigpt-capacity-") as folder,
        start_service(Path(folder), model, "--weights", weights) as service,
    ):
        process = psutil.Process(service.process.pid)
        asyncio.run(_ask_all(service.url, process, 1, len(QUESTIONS) * 2))  # compiles, opens the index
        cost = asyncio.run(_ask_all(service.url, process, n_clients, n_answers))
    per_answer = cost.cpu_seconds / cost.n_answers
    return Result(
        f"{cost.n_answers} answers of {cost.n_tokens / cost.n_answers:.0f} tokens to {n_clients} clients; own memory "
        f"{cost.memory_bytes / 1e6:.0f} MB; a question in {seconds_between:.0f} s per person, cores {utilization:.0%} busy",
        "processor seconds/answer",
        per_answer,
        is_cost=True,
        details=list_capacities(per_answer, seconds_between, utilization),
    )


def count_cores(n_users: int, cpu_seconds: float, seconds_between: float, utilization: float) -> int:
    """Return how many cores serve these users."""
    return max(1, math.ceil(n_users / seconds_between * cpu_seconds / utilization))


def list_capacities(cpu_seconds: float, seconds_between: float, utilization: float) -> list[Row]:
    """Return a row per number of users."""
    return [
        {
            "people who ask at the same time of day": n_users,
            "questions/s": n_users / seconds_between,
            "cores": count_cores(n_users, cpu_seconds, seconds_between, utilization),
        }
        for n_users in USERS
    ]


async def _ask_all(url: str, process: psutil.Process, n_clients: int, n_answers: int) -> Cost:
    """Let clients ask until all answers are there; return what they cost."""
    n_tokens, todo = 0, list(range(n_answers // 2))

    async def ask() -> None:
        nonlocal n_tokens
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            while todo:
                number = todo.pop()
                messages: list[dict[str, Any]] = []
                for question in QUESTIONS[number % len(QUESTIONS)]:
                    messages.append({"role": "user", "content": question})
                    body = {"model": "minigpt", "messages": messages, "metadata": {"conversation": f"c{number}"}}
                    answer = await client.post("/v1/chat/completions", json=body)
                    answer.raise_for_status()
                    reply = answer.json()
                    n_tokens += reply["usage"]["completion_tokens"]
                    messages.append({"role": "assistant", "content": reply["choices"][0]["message"]["content"]})

    before, start = process.cpu_times(), time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(n_clients)))
    after, wall = process.cpu_times(), time.perf_counter() - start
    cpu = after.user + after.system - before.user - before.system
    return Cost(n_answers, cpu, wall, n_tokens, process.memory_full_info().uss)
