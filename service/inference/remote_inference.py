"""Engines by address: vLLM, llama.cpp's server or any other that speaks OpenAI's API, behind our gateway.

In: addresses of engines that serve the same model. Out: direct answers; sessions with grounding need our own model. An engine
that dies is routed around: before the first byte another one is asked, later the answer is an error at once. Whoever leaves
closes the connection to the engine, which stops it.

Covers: slow, broken and hostile engines: limits on time, on bytes, on each line; each field is checked. Does not cover: whether the
JSON of an engine follows the schema that it was sent (it must be JSON); counts of tokens before an answer are estimates.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any

import httpx

from assistant.conversation.events import Engine, Message, ToolCall
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import DirectPiece, ModelDescription
from service.inference.address_pool import AddressPool, check_address
from service.inference.openai_wire import ChunkReader, make_bad_answer, make_body, read_seq_len
from service.service_error import ServiceError

JSON = Any
CONNECT_SECONDS = 0.8
FIRST_SECONDS = 60.0  # until the first byte, if the request has no deadline
SILENCE_SECONDS = 30.0  # between two bytes
TOTAL_SECONDS = 900.0
PROBE_SECONDS = 1.0
MAX_LINE_BYTES = 100_000
MAX_BYTES = 64_000_000  # of an answer
MAX_ERROR_BYTES = 10_000
UNKNOWN_WINDOW = 2**31 - 1  # the engine itself refuses what is too long
BYTES_PER_TOKEN = 4  # an estimate for limits, corrected by what the engine counts


class RemoteInference:
    """An `Inference` behind addresses. Create it with `RemoteInference.connect`."""

    def __init__(self, urls: Sequence[str], model: str, seq_len: int, api_key: str = "") -> None:
        self.pool = AddressPool(urls)
        self._model = model
        self._description = ModelDescription(model, "", "upstream", seq_len or UNKNOWN_WINDOW, 0, 0, "unknown")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}
        self._is_over = threading.Event()

    @classmethod
    def connect(cls, urls: Sequence[str], *, api_key: str = "", patience_seconds: float = 30.0) -> RemoteInference:
        """Ask the engines for their model until one answers, and go on asking how they are. Raises: ValueError."""
        bases = [_make_base(url) for url in urls]
        end, found = time.monotonic() + patience_seconds, ""
        while True:
            for base in bases:
                try:
                    name, seq_len = _fetch_model(base, api_key)
                except (httpx.HTTPError, ValueError) as error:
                    found = f"{base}: {str(error)[:80] or type(error).__name__}"
                    continue
                inference = cls(bases, name, seq_len, api_key)
                threading.Thread(target=inference.probe_forever, name="probe", daemon=True).start()
                return inference
            if time.monotonic() > end:
                raise ValueError(
                    f"settings.upstream: no engine answers; found {found}; start one, or correct the address."
                )
            time.sleep(0.2)

    @property
    def description(self) -> ModelDescription:
        return self._description

    async def generate(self, request: AnswerRequest, choice: int = 0) -> AsyncGenerator[DirectPiece | ToolCall, None]:
        """Answer directly. Raises: ServiceError 400, 429, 502, 503, 504."""
        path, body = make_body(request, choice, self._model)
        constraint = request.constraint
        offered = frozenset(tool.name for tool in constraint.tools) if constraint is not None else frozenset[str]()
        is_json = constraint is not None and constraint.kind in ("json_schema", "json_object")
        reader, started, first = ChunkReader(offered, is_json), time.monotonic(), 0.0
        first_seconds = request.deadline_seconds or FIRST_SECONDS
        chunks = self._stream(path, body, first_seconds)
        try:
            async for chunk in chunks:
                for piece in reader.read(chunk):
                    first = first or time.monotonic() - started
                    yield piece
        finally:
            await chunks.aclose()
        for item in reader.finish(time.monotonic() - started, first):
            yield item

    def get_engine(self, tenant: str, adapter: str = "") -> Engine:
        """Raises: ServiceError 400: a session weighs candidates by the model's probabilities, which the wire does not carry."""
        raise ServiceError(
            400,
            "model: the engine behind this service answers directly only; found a request for the assistant; name NAME/direct.",
            code="unsupported_by_upstream",
            param="model",
        )

    def count_tokens(self, text: str) -> int:
        """Return an estimate."""
        return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)

    def count_message(self, message: Message) -> int:
        """Return an estimate."""
        return self.count_tokens(message.text) + 2

    def tokenize(self, text: str) -> list[int]:
        """Raises: ServiceError 400: only the engine knows its tokenizer."""
        raise _refuse_tokens()

    def detokenize(self, ids: Sequence[int]) -> str:
        """Raises: ServiceError 400: only the engine knows its tokenizer."""
        raise _refuse_tokens()

    def probe(self) -> None:
        """Ask each engine how it is; what does not answer is down until it does."""
        for base in self.pool.list_candidates():
            try:
                url, timeout = f"{base}/models", httpx.Timeout(2.0, connect=CONNECT_SECONDS)
                works = httpx.get(url, headers=self._headers, timeout=timeout, trust_env=False).status_code < 500
            except httpx.HTTPError:
                works = False
            self.pool.report(base, works=works)

    def probe_forever(self) -> None:
        """Probe until `close`."""
        while not self._is_over.wait(PROBE_SECONDS):
            self.probe()

    def close(self) -> None:
        """End the probes."""
        self._is_over.set()

    async def close_async(self) -> None:
        """Close the idle connections of the event loop."""
        if (client := self._clients.pop(asyncio.get_running_loop(), None)) is not None:
            await client.aclose()

    async def _stream(self, path: str, body: JSON, first_seconds: float) -> AsyncGenerator[JSON, None]:
        """Yield the chunks of an answer. Until the first one, engines that fail are left for the next."""
        last: ServiceError | None = None
        for base in self.pool.list_candidates():
            has_begun = False
            try:
                with self.pool.occupy(base):
                    chunks = self._stream_from(base + path, body, first_seconds)
                    try:
                        async for chunk in chunks:
                            if not has_begun:
                                self.pool.report(base, works=True)
                                has_begun = True
                            yield chunk
                    finally:
                        await chunks.aclose()
                return
            except httpx.TimeoutException as error:
                self.pool.report(base, works=False)
                last = ServiceError(504, _describe_silence(error), code="upstream_timeout", retry_after=1)
                if has_begun or not isinstance(error, httpx.ConnectTimeout):
                    break  # it may be computing: another one would take as long
            except httpx.HTTPError as error:
                self.pool.report(base, works=False)
                last = _make_unavailable(type(error).__name__)
            except _EngineFailedError as error:
                last = make_bad_answer(f"status {error.status}")
                if error.status != 500:  # that may be due to the request: it must not take the engine from others
                    self.pool.report(base, works=False)
                    last = _make_unavailable(f"status {error.status}")
            if has_begun:
                break
        raise last or _make_unavailable("no address")

    async def _stream_from(self, url: str, body: JSON, first_seconds: float) -> AsyncGenerator[JSON, None]:
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, read=max(first_seconds, 0.1))
        client = self._get_client()
        async with client.stream("POST", url, json=body, headers=self._headers, timeout=timeout) as response:
            if response.status_code != 200:
                raise await _read_failure(response)
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise make_bad_answer(f"content type {kind[:40]!r}")
            async for data in _read_events(response.aiter_bytes(), time.monotonic):
                if data == b"[DONE]":
                    return
                try:
                    yield json.loads(data)
                except ValueError:
                    raise make_bad_answer("a chunk that is no JSON") from None

    def _get_client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            limits = httpx.Limits(max_connections=1024, max_keepalive_connections=64, keepalive_expiry=5)
            self._clients = {loop: httpx.AsyncClient(limits=limits, trust_env=False)}
        return self._clients[loop]


class _EngineFailedError(Exception):
    """An engine answered that it can't: the next one is asked."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


async def _read_events(chunks: AsyncIterator[bytes], clock: Callable[[], float]) -> AsyncGenerator[bytes, None]:
    """Yield the data of server-sent events. Raises: ServiceError for too long a line, too many bytes, too long a time."""
    rest, n_bytes, end = b"", 0, clock() + TOTAL_SECONDS
    async for chunk in chunks:
        n_bytes += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES or n_bytes > MAX_BYTES:
            raise make_bad_answer("more bytes than an answer has")
        if clock() > end:
            raise ServiceError(
                504, f"the engine takes too long; found {TOTAL_SECONDS:.0f} s; ask for less.", "upstream_timeout"
            )
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


async def _read_failure(response: httpx.Response) -> Exception:
    """Return the error that a response with another status than 200 is."""
    status, body = response.status_code, bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ERROR_BYTES:
            break
    if status >= 500:
        return _EngineFailedError(status)
    try:
        row: JSON = json.loads(body)
        found: JSON = row["error"]["message"] if isinstance(row["error"], dict) else row["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = f"status {status}"
    found = " ".join(str(found).split())[:80]
    if status == 429:
        return ServiceError(429, f"the engine is busy; found: {found}; try again.", code="upstream_busy", retry_after=1)
    if status in (400, 413, 422):
        return ServiceError(400, f"the engine refuses the request; found: {found}; change it.", code="upstream_refused")
    return ServiceError(
        502, f"the engine can't be used; found status {status}; tell the operator.", code="bad_upstream"
    )


def _fetch_model(base: str, api_key: str) -> tuple[str, int]:
    """Return name and window of the model that an engine serves. Raises: httpx.HTTPError, ValueError."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    response = httpx.get(
        f"{base}/models", headers=headers, timeout=httpx.Timeout(5.0, connect=CONNECT_SECONDS), trust_env=False
    )
    if response.status_code != 200:
        raise ValueError(f"status {response.status_code}")
    rows: JSON = response.json()
    models: JSON = rows.get("data") if isinstance(rows, dict) else None
    if not isinstance(models, list) or not models or not isinstance(models[0], dict) or not models[0].get("id"):
        raise ValueError("no list of models")
    return str(models[0]["id"]), read_seq_len(models[0])


def _make_base(url: str) -> str:
    """Return the address below which the calls are."""
    base = check_address(url, "settings.upstream")
    return base if base.endswith("/v1") else f"{base}/v1"


def _make_unavailable(found: str) -> ServiceError:
    message = f"no engine behind this service answers; found {found[:80]}; try again in a second."
    return ServiceError(503, message, code="upstream_unavailable", retry_after=1)


def _describe_silence(error: Exception) -> str:
    return f"the engine behind this service is silent; found {type(error).__name__}; try again."


def _refuse_tokens() -> ServiceError:
    message = (
        "tokens: the engine behind this service keeps its tokenizer to itself; found a request for it; ask the engine."
    )
    return ServiceError(400, message, code="unsupported_by_upstream")
