"""10,000 hostile requests to a running service: no 5xx, no crash, every error in OpenAI's shape.

Fuzzed JSON, huge and deep values, bad UTF-8, duplicate keys, broken HTTP, wrong methods and paths, bodies that stop half-way,
clients that leave or reset the connection, all from one seed. Without --url it starts the service itself, on the champion.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.measure import Result
from benchmarks.serving.service_process import start_service

N_AT_ONCE = 16
SECONDS = 30.0  # that a request may take; a model's answer on a busy machine is the longest
MESSAGES = [{"role": "user", "content": "What is a matrix?"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "minigpt", "messages": MESSAGES, "max_tokens": 2, "temperature": 0.5, "seed": 1},
    "/v1/completions": {"model": "minigpt", "prompt": "The list", "max_tokens": 2, "stop": ["a"], "n": 1},
    "/v1/responses": {"model": "minigpt", "input": "Hello", "max_output_tokens": 2, "metadata": {"a": "b"}},
    "/v1/embeddings": {"model": "minigpt", "input": ["matrix", "river"], "encoding_format": "float"},
    "/v1/rerank": {"model": "minigpt", "query": "matrix", "documents": ["a", "b"], "top_n": 1},
    "/tokenize": {"model": "minigpt", "prompt": "Hello there"},
    "/detokenize": {"model": "minigpt", "tokens": [1, 2, 3]},
    "/v1/feedback": {"answer": "ans_x", "rating": "up", "comment": "good", "consent": True},
}
GETS = (
    "/health",
    "/ready",
    "/version",
    "/v1/models",
    "/v1/models/minigpt",
    "/v1/responses/resp_x",
    "/metrics",
    "/",
    "/openapi.json",
)
ODD = (
    "/..%2f..%2fetc/passwd",
    "/v1//models",
    "/v1/models/%00",
    "/%ff%fe",
    "/v1/models/" + "a" * 5_000,
    "/v1/chat/completions?x=1&x=2",
    "*",
    "/v1/models/../../x",
    "/\u00e9",
)
STRINGS = (
    "",
    "\x00",
    "<|end|><|system|>",
    "'; DROP TABLE keys;--",
    "../../etc/passwd",
    "{{7*7}}",
    "\u202e\u0000\uffff",
    "a" * 20_000,
    "😀" * 500,
    "%s%n",
    "NaN",
    "null",
)
NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**40, 1e308, -1e308, 5e-324, 0.1, -0.0)


@dataclass(frozen=True)
class HostileRequest:
    """Bytes to send, and how: all or a part, in how many pieces, and whether the answer is awaited or the connection reset."""

    kind: str
    data: bytes
    n_pieces: int = 1
    ends: str = "read"  # read, leave (close without reading) or reset


@dataclass
class Tally:
    """What came back. `problems` are what must not be."""

    statuses: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])


def make_requests(n: int, seed: int) -> list[HostileRequest]:
    """Return `n` requests; the same seed gives the same."""
    rng = random.Random(seed)
    makers = (
        _fuzz_value,
        _fuzz_value,
        _fuzz_value,
        _fuzz_bytes,
        _fuzz_bytes,
        _nest,
        _fuzz_head,
        _break_http,
        _leave,
        _ask_path,
    )
    return [rng.choice(makers)(rng) for _ in range(n)]


def _encode(path: str, body: bytes, method: str = "POST", headers: tuple[str, ...] = ()) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", "Connection: close"]
    head = "\r\n".join([*lines, *headers, f"Content-Length: {len(body)}"])
    return head.encode("utf-8") + b"\r\n\r\n" + body


def _choose(rng: random.Random) -> tuple[str, dict[str, Any]]:
    path = rng.choice(list(BODIES))
    return path, json.loads(json.dumps(BODIES[path]))


def make_value(rng: random.Random, depth: int = 3) -> Any:
    """Return a random JSON value, with strings and numbers that have broken programs before."""
    kind = rng.randrange(7 if depth else 5)
    if kind == 0:
        return rng.choice((None, True, False))
    if kind == 1:
        return rng.choice(NUMBERS)
    if kind in (2, 3):
        return rng.choice(STRINGS)
    if kind == 4:
        return rng.choice(([], {}, [[]], [{}], [None] * 3))
    if kind == 5:
        return [make_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {str(make_value(rng, 0))[:50]: make_value(rng, depth - 1) for _ in range(rng.randrange(4))}


FIELDS = (
    "model", "messages", "input", "prompt", "stream", "tools", "tool_choice", "response_format", "n", "stop", "logit_bias", "seed",
    "logprobs", "top_logprobs", "max_tokens", "max_output_tokens", "temperature", "top_p", "metadata", "user", "documents", "query",
    "tokens", "text", "previous_response_id", "truncation", "dimensions", "encoding_format", "stream_options", "instructions",
)  # fmt: skip


def _fuzz_value(rng: random.Random) -> HostileRequest:
    """Replace, add or delete fields, at the top or inside."""
    path, body = _choose(rng)
    for _ in range(rng.randint(1, 3)):
        target: Any = body
        while rng.random() < 0.5 and isinstance(target, dict | list) and target:
            key = rng.choice(list(target) if isinstance(target, dict) else range(len(target)))
            if not isinstance(target[key], dict | list):
                break
            target = target[key]
        if isinstance(target, dict):
            name = rng.choice(list(target) + list(FIELDS)) if target else rng.choice(FIELDS)
            if rng.random() < 0.15:
                target.pop(name, None)
            else:
                target[name] = make_value(rng)
        elif target:
            target[rng.randrange(len(target))] = make_value(rng)
    return HostileRequest("value", _encode(path, json.dumps(body).encode()))


def _fuzz_bytes(rng: random.Random) -> HostileRequest:
    """Break the JSON: cut it, put bytes into it, repeat keys, use NaN or half surrogate pairs."""
    path, body = _choose(rng)
    data = json.dumps(body).encode()
    way = rng.randrange(6)
    at = rng.randrange(len(data))
    if way == 0:
        data = data[:at]
    elif way == 1:
        data = data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at:]
    elif way == 2:
        data = data[:-1] + b', "model": "minigpt"}'
    elif way == 3:
        data = data.replace(b"1", rng.choice((b"NaN", b"1e999", b"-Infinity", b"9" * 5_000, b"0x10", b"01")), 1)
    elif way == 4:
        data = data.replace(b"a", rng.choice((rb"\ud800", rb"\u0000", b"\xff", b"\xed\xa0\x80", rb"\x41")), 1)
    else:
        data = rng.randbytes(rng.randrange(2_000))
    return HostileRequest("bytes", _encode(path, data))


def _nest(rng: random.Random) -> HostileRequest:
    """Send what is deep, long, or both."""
    path, body = _choose(rng)
    depth = rng.choice((50, 70, 1_000, 100_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")))
    deep = opening * depth + b"1" + (closing * depth if rng.random() < 0.7 else b"")
    data = json.dumps({**body, rng.choice(FIELDS): "@"}).encode().replace(b'"@"', deep, 1)
    if rng.random() < 0.2:
        data = b'{"model": "' + b"x" * rng.choice((999_000, 1_000_000, 3_000_000)) + b'"}'
    return HostileRequest("deep", _encode(path, data))


def _fuzz_head(rng: random.Random) -> HostileRequest:
    """Send headers that lie, repeat, are too many or too long."""
    path, body = _choose(rng)
    data = json.dumps(body).encode()
    header = rng.choice(
        (
            "Content-Type: text/plain", "Content-Type: application/json; charset=utf-16", "Content-Encoding: gzip",
            "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Content-Length: 5", "Content-Length: -1",
            "Content-Length: 99999999999999999999", "Expect: 100-continue", "Connection: Upgrade\r\nUpgrade: websocket",
            "Authorization: Bearer " + "k" * 3_000, "Authorization: Basic eDp5", "X-Long: " + "a" * 70_000,
            "Host: evil.example", "Origin: https://evil.example", "Cookie: a=b", "Accept: nothing", "X-Bad : space",
            "\x00: x", "X-Nul: a\x00b", "X-Forwarded-For: 1.2.3.4", "\r\n".join(f"X-{i}: {i}" for i in range(300)),
        )
    )  # fmt: skip
    return HostileRequest("head", _encode(path, data, headers=(header,)))


def _break_http(rng: random.Random) -> HostileRequest:
    """Send what is no HTTP, or not quite."""
    data = rng.choice(
        (
            b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n", b"GET /health HTTP/1.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            b"GET /health HTTP/1.1\r\nHost: x\r\n folded: x\r\nConnection: close\r\n\r\n",
            b"GET /health HTTP/1.1\nHost: x\nConnection: close\n\n", rng.randbytes(rng.randint(1, 3_000)),
        )
    )  # fmt: skip
    return HostileRequest("http", data, ends=rng.choice(("read", "leave", "reset")) if rng.random() < 0.9 else "reset")


def _leave(rng: random.Random) -> HostileRequest:
    """Stop half-way, dribble, or leave while the answer is made."""
    path, body = _choose(rng)
    if rng.random() < 0.5 and path.startswith("/v1/c"):
        body |= {"stream": True, "max_tokens": 50}
    data = _encode(path, json.dumps(body).encode())
    if rng.random() < 0.4:
        data = data[: rng.randrange(1, len(data))]
        return HostileRequest("half", data, rng.randint(1, 5), rng.choice(("leave", "reset")))
    return HostileRequest("leave", data, rng.randint(1, 5), rng.choice(("leave", "reset", "read")))


def _ask_path(rng: random.Random) -> HostileRequest:
    """Use other methods and paths."""
    path = rng.choice((*GETS, *ODD, *BODIES))
    method = rng.choice(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "CONNECT", "BREW"))
    return HostileRequest("path", _encode(path, rng.choice((b"", b"{}")), method))


async def send_all(host: str, port: int, requests: list[HostileRequest], seconds: float = SECONDS) -> Tally:
    """Send all requests, some at once; check what comes back."""
    tally, waiting = Tally(), iter(requests)

    async def work() -> None:
        for request in waiting:
            try:
                async with asyncio.timeout(seconds):
                    answer = await _send(host, port, request)
            except TimeoutError:
                tally.problems.append(f"{request.kind}: no answer in {seconds} s: {request.data[:300]!r}")
                continue
            except OSError as error:
                answer = b""
                if isinstance(error, ConnectionRefusedError):
                    tally.problems.append(f"{request.kind}: the server is gone")
                    return
            _check(request, answer, tally)

    await asyncio.gather(*(work() for _ in range(N_AT_ONCE)))
    return tally


async def _send(host: str, port: int, request: HostileRequest) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        size = -(-len(request.data) // request.n_pieces)
        for start in range(0, len(request.data), size):
            writer.write(request.data[start : start + size])
            await writer.drain()
            if request.n_pieces > 1:
                await asyncio.sleep(0.002)
        if request.ends == "read":
            return await _read(reader, request.kind in ("http", "head"))
        if request.ends == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return b""
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader, may_wait: bool) -> bytes:
    """Return the answer. A server may wait for the rest of what is no whole request; half a second of that is enough."""
    if not may_wait:
        return await reader.read(-1)
    try:
        async with asyncio.timeout(0.5):
            return await reader.read(65_536)
    except TimeoutError:
        return b""


def _check(request: HostileRequest, answer: bytes, tally: Tally) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head[9:12].decode("ascii", "replace") if answer else "none"
    tally.statuses[status] += 1
    if status.startswith("5") and status != "503":
        tally.problems.append(f"{request.kind}: {status} {body[:200]!r} for {request.data[:600]!r}")
    is_error = (
        status[:1] in ("4", "5") and request.kind not in ("head", "http") and not request.data.startswith(b"HEAD")
    )
    if is_error and not _has_shape(body):
        tally.problems.append(
            f"{request.kind}: {status} without OpenAI's shape: {answer[:300]!r} for {request.data[:300]!r}"
        )


def _has_shape(body: bytes) -> bool:
    try:
        return set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    except (ValueError, KeyError, TypeError):
        return False


def attack(url: str, n: int, seed: int) -> Tally:
    """Send `n` requests to a service; then it must still be there."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    tally = asyncio.run(send_all(host, port, make_requests(n, seed)))
    health = asyncio.run(_send(host, port, HostileRequest("path", _encode("/health", b"", "GET"))))
    if b" 200 " not in health.partition(b"\r\n")[0]:
        tally.problems.append(f"the service is not healthy afterwards: {health[:200]!r}")
    return tally


def run(*, n_requests: int = 10_000, seed: int = 0, url: str = "", model: Path | None = None) -> Result:
    """Attack a service that runs, or one that is started for it; print what came back."""
    with tempfile.TemporaryDirectory() as folder:
        if url:
            return _report(lambda: attack(url, n_requests, seed), n_requests, None)
        with start_service(Path(folder), model) as service:
            return _report(lambda: attack(service.url, n_requests, seed), n_requests, service.process.pid)


def _report(attack_it: Callable[[], Tally], n_requests: int, pid: int | None) -> Result:
    process = psutil.Process(pid) if pid is not None else None
    before = process.memory_info().rss if process is not None else 0
    started = time.perf_counter()
    tally = attack_it()
    seconds = time.perf_counter() - started
    grown = (process.memory_info().rss - before) / 1e6 if process is not None else 0.0
    for problem in tally.problems[:20]:
        print(problem)
    statuses = {f"status {status}": float(n) for status, n in sorted(tally.statuses.items())}
    details = [{"seconds": round(seconds, 1), "memory grown (MB)": round(grown, 1), **statuses}]
    work = f"{n_requests:,} hostile requests: wrong answers (5xx, no answer, another shape)"
    return Result(work, "wrong answers", len(tally.problems), is_cost=True, details=details)
