"""The service as processes: the same bytes as of one process, and whatever is killed, an error at once and back by itself."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from service.processes.supervise import MAX_PAUSE_SECONDS, Child, Supervisor
from tests.conftest import ROOT
from tests.service.processes.running_service import run_service

QUESTIONS = ("What is 12 * 7?", "linalg.inv?", "pandas.read_csv", "hello")
CHANGING = re.compile(
    r'"(id|request|answer|created|seconds|first_token_seconds|n_cached_tokens|cached_tokens)":("[^"]*"|[\d.e-]+)'
)
BACK_SECONDS = 60.0  # a bound for busy machines; 1 to 2 s of processor time


@dataclass
class FakeProcess:
    """A process that ends when the test says so."""

    code: int | None = None
    signals: list[str] = field(default_factory=list[str])

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.signals.append("term")

    def kill(self) -> None:
        self.signals.append("kill")
        self.code = -9

    def wait(self, timeout: float | None = None) -> int:
        if self.code is None:
            raise subprocess.TimeoutExpired("fake", timeout or 0)
        return self.code


def test_a_process_that_dies_is_restarted_at_once_and_slower_each_time() -> None:
    now, started = 0.0, list[FakeProcess]()

    def start() -> FakeProcess:
        started.append(FakeProcess())
        return started[-1]

    supervisor = Supervisor([Child("part", start)], clock=lambda: now)  # type: ignore[arg-type]
    pauses: list[float] = []
    for _ in range(9):
        supervisor.step()
        started[-1].code = 1
        died, n_started = now, len(started)
        while len(started) == n_started:
            now += 0.01
            supervisor.step()
        pauses.append(round(now - died, 1))
    assert pauses[0] == 0.1
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_PAUSE_SECONDS
    now += 100.0  # it has lived for a while
    started[-1].code, n_started = -9, len(started)
    supervisor.step()
    now += 0.2
    supervisor.step()
    assert len(started) == n_started + 1
    supervisor.stop(0.0)
    assert started[-1].signals == ["term", "kill"]


@contextmanager
def supervise(model: Path, state: Path, *flags: str) -> Generator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "service",
        "supervise",
        f"--model={model}",
        f"--state={state}",
        f"--port={port}",
        *flags,
    ]
    process, url = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL), f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: is_ready(url))
        yield url, process
    finally:
        process.terminate()
        process.wait(60)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(is_true: Callable[[], bool]) -> float:
    started = time.monotonic()
    while not is_true():
        assert time.monotonic() - started < BACK_SECONDS
        time.sleep(0.2)
    return time.monotonic() - started


def ask(client: httpx.Client, url: str, question: str, **settings: object) -> tuple[int, str]:
    body = {"model": "minigpt", "messages": [{"role": "user", "content": question}], "max_tokens": 30, **settings}
    response = client.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    return response.status_code, CHANGING.sub("", response.text)


def list_parts(supervisor: int) -> dict[str, int]:
    """Return the processes that a supervisor has started, by name."""
    lines = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    rows = [line.split() for line in lines[1:]]
    return {
        row[row.index("service") + 1]: int(row[0]) for row in rows if row[1] == str(supervisor) and "service" in row
    }


@pytest.mark.slow
def test_apart_answers_are_those_of_one_process_and_survive_kills(learned: Path, tmp_path: Path) -> None:
    with run_service(learned, tmp_path / "one") as single, httpx.Client() as client:
        expected = {question: ask(client, single.url, question) for question in QUESTIONS}
        streamed = {question: ask(client, single.url, question, stream=True) for question in QUESTIONS}
        direct = ask(client, single.url, "hello", model="minigpt/direct", temperature=0.9, seed=3)
    with supervise(learned, tmp_path / "apart") as (url, supervisor), httpx.Client() as client:
        assert {question: ask(client, url, question) for question in QUESTIONS} == expected
        assert {question: ask(client, url, question, stream=True) for question in QUESTIONS} == streamed
        assert ask(client, url, "hello", model="minigpt/direct", temperature=0.9, seed=3) == direct
        for part in ("inference", "retrieval", "tools", "gateway"):
            _kill_under_load(url, supervisor.pid, part, expected)


def _kill_under_load(url: str, supervisor: int, part: str, expected: dict[str, tuple[int, str]]) -> None:
    """Kill a part while questions are asked: each gets its own right answer or an error 503, and all are answered again later."""
    is_over, wrong, latencies = threading.Event(), list[object](), list[float]()
    killed_at = float("inf")

    def load(number: int) -> None:
        with httpx.Client() as client:
            while not is_over.is_set():
                question, started = QUESTIONS[number % len(QUESTIONS)], time.monotonic()
                number += 1
                try:
                    answer = ask(client, url, question)
                except httpx.HTTPError as error:
                    answer = (0 if part == "gateway" else -1, type(error).__name__)
                if answer[0] in (503, 0):
                    latencies.append(time.monotonic() - max(started, killed_at))
                    is_over.wait(0.3)
                elif answer != expected[question]:
                    wrong.append(answer)
                is_over.wait(0.1)  # the processor is for the restart

    threads = [threading.Thread(target=load, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    before, killed_at = list_parts(supervisor)[part], time.monotonic()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: list_parts(supervisor).get(part, before) != before and is_ready(url))
    is_over.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert max(latencies, default=0.0) < 5.0  # milliseconds on a machine that does nothing else
    with httpx.Client() as client:
        assert {question: ask(client, url, question) for question in QUESTIONS} == expected
