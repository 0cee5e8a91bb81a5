"""Start servers on free ports of this machine, and send them streamed completions from many clients at once.

A client is a socket and a few lines, so that most of both cores is left to the server: HTTP libraries cost more per token than
either server. Processor time is the server's own, of all its threads and children.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.measure import ROOT
from pipeline.frame.errors import UserError

SECONDS = 120.0  # to start on a busy machine
_COUNT = re.compile(rb'"completion_tokens":\s*(\d+)')
_TEXT = re.compile(rb'"text":\s*"[^"]')


@dataclass(frozen=True)
class RunningServer:
    """A server that answers at a port."""

    port: int
    process: psutil.Process
    start_seconds: float

    def measure_cpu(self) -> float:
        """Return the processor seconds that it has used."""
        times = self.process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system

    def measure_memory(self) -> float:
        """Return its resident memory in MB."""
        return self.process.memory_info().rss / 1e6


@dataclass(frozen=True)
class Load:
    """What a number of clients got: tokens per second over all, seconds to the first text, processor milliseconds per token."""

    tokens_per_second: float
    first_seconds: Sequence[float]
    cpu_ms_per_token: float

    def get_first_ms(self, share: float) -> float:
        """Return a percentile of the time to the first text in milliseconds."""
        ordered = sorted(self.first_seconds)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1e3


@contextmanager
def run_service(model: Path, state: Path, *flags: str) -> Generator[RunningServer]:
    """Run ours. Its state is in an empty folder, so nobody needs a key."""
    command = [
        sys.executable,
        "-m",
        "service",
        "serve",
        "--port",
        "0",
        "--model",
        str(model),
        "--state",
        str(state),
        *flags,
    ]
    with _run(command) as (process, started):
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if found := re.match(r"serving http://127\.0\.0\.1:(\d+)", line):
                yield RunningServer(int(found[1]), psutil.Process(process.pid), time.monotonic() - started)
                return
        raise UserError("benchmark: the service did not start", "".join(lines[-5:]), "read its message")


@contextmanager
def run_llama_server(
    binary: Path, gguf: Path, *, n_slots: int, seq_len: int, n_threads: int
) -> Generator[RunningServer]:
    """Run llama.cpp's server with a slot per client. Its chat template is not ours: only completions are measured."""
    port = _find_port()
    context = ["-np", str(n_slots), "-c", str(n_slots * seq_len), "-t", str(n_threads)]
    command = [str(binary), "-m", str(gguf), "--port", str(port), *context, "--chat-template", "chatml"]
    with _run(command) as (process, started):
        while time.monotonic() < started + SECONDS:
            if process.poll() is not None:
                raise UserError(
                    "benchmark: llama-server did not start", f"exit code {process.poll()}", "run it by hand"
                )
            if _is_ready(port):
                yield RunningServer(port, psutil.Process(process.pid), time.monotonic() - started)
                return
            time.sleep(0.05)
        raise UserError("benchmark: llama-server did not start", f"nothing after {SECONDS:.0f} s", "run it by hand")


@contextmanager
def _run(command: Sequence[str]) -> Generator[tuple[subprocess.Popen[str], float]]:
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process, started
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _find_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _is_ready(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return b" 200 " in client.recv(100)
    except OSError:
        return False


def send_load(server: RunningServer, prompts: Sequence[str], n_clients: int, max_tokens: int) -> Load:
    """Send the prompts from so many clients, each of which sends its next one when its last one has ended."""
    waiting, firsts, n_tokens = list(prompts), list[float](), 0

    async def work() -> None:
        nonlocal n_tokens
        while waiting:
            first, n = await _complete(server.port, waiting.pop(), max_tokens)
            firsts.append(first)
            n_tokens += n

    async def work_all() -> None:
        await asyncio.gather(*(work() for _ in range(n_clients)))

    cpu, started = server.measure_cpu(), time.perf_counter()
    asyncio.run(work_all())
    seconds = time.perf_counter() - started
    return Load(n_tokens / seconds, firsts, (server.measure_cpu() - cpu) / n_tokens * 1e3)


async def _complete(port: int, prompt: str, max_tokens: int) -> tuple[float, int]:
    """Return the seconds to the first text, and the number of tokens."""
    body = {
        "model": "minigpt/direct",
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Type: application/json\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.perf_counter()
    writer.write(f"{head}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content)
    received, first = b"", 0.0
    while part := await reader.read(1 << 16):
        received += part
        if not first and _TEXT.search(received):
            first = time.perf_counter() - started
    writer.close()
    counts = _COUNT.findall(received)
    if not counts:
        raise UserError("benchmark: a completion failed", received[:200].decode("utf-8", "replace"), "read its message")
    return first or time.perf_counter() - started, int(counts[-1])
