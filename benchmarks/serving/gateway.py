"""The gateway's own time: what our service adds to an answer, beside LiteLLM's proxy, in front of the same engine.

The engine answers at once. Each gateway is asked in turn, over one connection, for the same answer, whole or streamed; its own time
is its median less that of the engine asked directly, its CPU time that of its process. A further row has our service over a model
inside its process, where no second connection is needed: keys, policies, limits, journal and API are on in all of them.

--litellm FOLDER: an environment with litellm[proxy]; without it the peer is left out.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.measure import ROOT, Result
from pipeline.frame.errors import UserError

START_SECONDS = 180.0
LITELLM_CONFIG = """
model_list:
  - model_name: minigpt/direct
    litellm_params: {{model: openai/minigpt, api_base: {url}/v1, api_key: none}}
litellm_settings: {{telemetry: false}}
"""


@dataclass
class Server:
    """A server to ask, and what it took."""

    name: str
    port: int
    process: psutil.Process
    seconds: list[float] = field(default_factory=list[float])
    cpu_seconds: float = 0.0

    def read_cpu(self) -> float:
        """Return the CPU time of the process and its children."""
        times = [one.cpu_times() for one in (self.process, *self.process.children(recursive=True))]
        return sum(each.user + each.system for each in times)

    @property
    def median_ms(self) -> float:
        """Return the median time of a request."""
        return statistics.median(self.seconds) * 1e3

    @property
    def cpu_ms(self) -> float:
        """Return the CPU time of a request."""
        return self.cpu_seconds / len(self.seconds) * 1e3


def run(*, n_requests: int = 400, litellm: Path | None = None, rounds: int = 4) -> Result:
    """Start all servers, ask them in turn, and compare."""
    details: list[dict[str, float | str | None]] = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        servers = _start_all(Path(name), litellm, stack)
        for kind, is_stream in (("whole", False), ("streamed", True)):
            _measure(servers, is_stream, n_requests, rounds)
            direct = servers[0].median_ms
            for server in servers:
                added = server.median_ms - direct
                row = {"answer": kind, "server": server.name, "p50 ms": server.median_ms, "own p50 ms": added}
                details.append({**row, "CPU ms": server.cpu_ms})
    own = {(str(row["answer"]), str(row["server"])): row for row in details}
    ours, peer = own["whole", "ours in front of it"], own.get(("whole", "LiteLLM's proxy"))
    peer_ms = float(peer["own p50 ms"] or 0) if peer is not None else None
    work = "own time of a gateway, whole answers"
    return Result(work, "ms", float(ours["own p50 ms"] or 0), peer_ms, "LiteLLM's proxy", is_cost=True, details=details)


def _start_all(folder: Path, litellm: Path | None, stack: ExitStack) -> list[Server]:
    python = sys.executable
    engine = stack.enter_context(
        _start("engine", folder, [python, "-m", "benchmarks.serving.instant_servers", "engine"])
    )
    url = f"http://127.0.0.1:{engine.port}"
    serve = [
        python,
        "-m",
        "service",
        "serve",
        "--port",
        "0",
        "--upstream",
        f"{url}/v1",
        "--state",
        str(folder / "ours"),
    ]
    servers = [engine, stack.enter_context(_start("ours in front of it", folder, serve))]
    instant = [python, "-m", "benchmarks.serving.instant_servers", "service", str(folder / "instant")]
    servers.append(stack.enter_context(_start("ours, model inside", folder, instant)))
    if litellm is not None:
        config = folder / "litellm.yaml"
        config.write_text(LITELLM_CONFIG.format(url=url))
        command = [
            str(litellm / "bin" / "litellm"),
            "--config",
            str(config),
            "--host",
            "127.0.0.1",
            "--port",
            str(_find_port()),
        ]
        servers.append(stack.enter_context(_start("LiteLLM's proxy", folder, command, r"http://127\.0\.0\.1:(\d+)")))
    return servers


def _find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def _start(
    name: str, folder: Path, command: Sequence[str], pattern: str = r"serving http://127\.0\.0\.1:(\d+)"
) -> Generator[Server]:
    """Start a server; wait until it says its port."""
    log = folder / f"{name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + START_SECONDS
            while (match := re.search(pattern, log.read_text())) is None:
                if process.poll() is not None or time.monotonic() > end:
                    raise UserError(f"{name} did not start", log.read_text()[-800:], "see its output")
                time.sleep(0.1)
            yield Server(name, int(match[1]), psutil.Process(process.pid))
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _measure(servers: Sequence[Server], is_stream: bool, n_requests: int, rounds: int) -> None:
    """Ask the servers in turn, several times, so that other programs on the machine slow all of them alike."""
    for server in servers:
        server.seconds, server.cpu_seconds = [], 0.0
        asyncio.run(_ask(server, is_stream, 20))  # warm
        server.seconds = []
    for _ in range(rounds):
        for server in servers:
            before = server.read_cpu()
            asyncio.run(_ask(server, is_stream, n_requests // rounds))
            server.cpu_seconds += server.read_cpu() - before


async def _ask(server: Server, is_stream: bool, n: int) -> None:
    body = {
        "model": "minigpt/direct",
        "messages": [{"role": "user", "content": "What is a matrix?"}],
        "stream": is_stream,
    }
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    request = head.encode() + b"\r\n\r\n" + data
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for _ in range(n):
        begun = time.perf_counter()
        writer.write(request)
        answer = await _read(reader)
        server.seconds.append(time.perf_counter() - begun)
        if b"word15" not in answer:
            raise UserError(f"{server.name} did not answer", repr(answer[:300]), "see what it serves")
    writer.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
    if length is not None:
        return await reader.readexactly(int(length[1]))
    body = b""
    while size := int((await reader.readline()).strip() or b"0", 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body
