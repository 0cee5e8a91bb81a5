"""A service whose model is a script, behind the real application and a real server: what clients see of the API, without weights.

The assistant says `you said: MESSAGE`, word by word, and cites where the message has `cite`. The model itself continues with
numbered words; under a constraint it writes the shortest value that the schema allows. `slow` in a message: a word every 20 ms,
for ever.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import uvicorn

from assistant.conversation.events import (
    Citation,
    Done,
    Event,
    Message,
    Notice,
    Sampling,
    TextPiece,
    ToolCall,
    ToolResult,
)
from assistant.profiles.profile import list_profiles, load_profile
from model.retrieval.embedder import Embedder
from service.answers.answer_request import AnswerRequest
from service.answers.answering import Answering, AnswerParts
from service.answers.interfaces import ChosenToken, DirectPiece, ModelDescription
from service.api.all_routes import make_routers
from service.api.http.http_protocol import MAX_HEAD_BYTES, HttpProtocol
from service.api.text_vectors import TextVectors
from service.app import make_app
from service.service_error import ServiceError
from service.service_parts import Service
from service.service_settings import ServiceSettings

QUOTE = "Return the sum of a list."
CITED = Citation("d1", "list.sum", ("list",), 10, 35, 0, 1, 1, "", "CC0-1.0", "ab" * 32, QUOTE)
SEQ_LEN = 512
VOCAB = 512


def make_value(schema: Any) -> Any:
    """Return a short value that a simple schema allows."""
    if not isinstance(schema, dict):
        return "x"
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: make_value(value) for name, value in schema.get("properties", {}).items()}
    if kind == "array":
        return [make_value(schema.get("items"))] * schema.get("minItems", 1)
    return {"integer": 7, "number": 1.5, "boolean": True, "null": None}.get(kind, "x")


@dataclass
class ScriptedInference:
    """Bytes are its tokens."""

    description: ModelDescription = field(
        default_factory=lambda: ModelDescription(
            "minigpt", "7", "sft", SEQ_LEN, VOCAB, 1_000, "float32", {"data": "ab", "code": "cd"}
        )
    )
    word: str = "w"
    n_steps: int = 0
    n_running: int = 0

    async def generate(self, request: AnswerRequest, choice: int = 0) -> AsyncIterator[Any]:
        prompt = request.prompt if request.prompt is not None else request.messages[-1].text
        n_prompt = len(prompt.encode())
        if n_prompt >= SEQ_LEN:
            message = f"messages are too long; found {n_prompt} tokens for a context of {SEQ_LEN}; shorten them."
            raise ServiceError(400, message, code="context_length_exceeded", param="messages")
        self.n_running += 1
        try:
            async for piece in self._write(request, prompt, choice):
                self.n_steps += 1
                yield piece
        finally:
            self.n_running -= 1

    async def _write(self, request: AnswerRequest, prompt: str, choice: int) -> AsyncIterator[Any]:
        constraint, n_prompt = request.constraint, len(prompt.encode())
        if constraint is not None and constraint.kind == "tools":
            if constraint.must_call or "weather" in prompt:
                tool = constraint.tools[0]
                yield ToolCall("", tool.name, make_value({"type": "object", **dict(tool.parameters)}))
                yield DirectPiece(done=Done(n_prompt, 9, 0.1, 0.01, "tool_calls"))
                return
        elif constraint is not None:
            value = make_value(constraint.schema) if constraint.schema else {"ok": True}
            text = "2026-01-31" if constraint.kind == "regex" else json.dumps(value)
            yield DirectPiece(text)
            yield DirectPiece(done=Done(n_prompt, len(text), 0.1, 0.01, "end"))
            return
        n_words = min(request.sampling.max_tokens, 6)
        number = 0
        while number < n_words or "slow" in prompt:
            if "slow" in prompt:
                await asyncio.sleep(0.02)
            word = f"{' ' if number else ''}{self.word}{choice}{number}"
            if any(stop in word for stop in request.controls.stop):
                yield DirectPiece(done=Done(n_prompt, number, 0.1, 0.01, "stop"))
                return
            n = request.controls.n_logprobs
            other = (("alt", tuple(b"alt"), -2.0), ("bet", tuple(b"bet"), -3.0))[: n or 0]
            token = ChosenToken(number, word, tuple(word.encode()), -0.5, other)
            yield DirectPiece(word, (token,) if n is not None else ())
            number += 1
        reason = "length" if request.sampling.max_tokens <= 6 else "end"
        yield DirectPiece(done=Done(n_prompt, number, 0.1, 0.01, reason))

    def get_engine(self, tenant: str, adapter: str = "") -> Any:
        raise NotImplementedError

    def count_tokens(self, text: str) -> int:
        return len(text.encode())

    def count_message(self, message: Message) -> int:
        return len(message.text.encode()) + 2

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def detokenize(self, ids: Sequence[int]) -> str:
        return bytes(id % 256 for id in ids).decode("utf-8", "replace")


@dataclass
class ScriptedAssistants:
    """Sessions that say what they heard."""

    inference: ScriptedInference

    def list_profiles(self) -> list[str]:
        return list_profiles()

    def load_profile(self, name: str) -> Any:
        if not name:
            return None
        if name not in list_profiles():
            raise ServiceError(
                404, f"model: no such profile; found {name[:60]!r}; use another.", code="model_not_found", param="model"
            )
        return load_profile(name)

    def open_session(self, request: AnswerRequest) -> Any:
        return SimpleNamespace(respond=lambda sampling: self._respond(request, sampling))

    def keep_session(self, request: AnswerRequest, session: Any, answer: str) -> None:
        pass

    def _respond(self, request: AnswerRequest, sampling: Sampling) -> Iterator[Event]:
        message = request.messages[-1].text
        inference = self.inference
        if "crash" in message:
            yield TextPiece("first ")
            raise RuntimeError("the secret of the inside")
        if "cite" in message:
            call = ToolCall.of("search_docs", "list.sum", "call_1")
            yield call
            yield ToolResult(call, f'[list.sum] "{QUOTE}"')
            yield Notice("searched one document")
            yield CITED
            yield TextPiece(f'list.sum: "{QUOTE}" [list.sum]')
            yield Done(30, 12, 0.1, 0.02, "end", 4)
            return
        words = f"you said: {message}".split(" ")
        number = 0
        inference.n_running += 1
        try:
            while number < min(len(words), sampling.max_tokens) or "slow" in message:
                if "slow" in message:
                    time.sleep(0.02)
                inference.n_steps += 1
                word = words[number] if number < len(words) else "more"
                yield TextPiece(word if number == 0 else f" {word}")
                number += 1
        finally:
            inference.n_running -= 1
        reason = "length" if number < len(words) else "end"
        yield Done(len(message.encode()), number, 0.1, 0.02, reason)


def make_vectors() -> TextVectors:
    """Return an embedder of five words in four directions."""
    import numpy as np

    words = sorted(["apple", "bank", "car", "matrix", "river"])
    vectors = np.zeros((5, 4), np.float16)
    vectors[range(5), [0, 1, 2, 3, 1]] = 1
    loaded = SimpleNamespace(embedder=Embedder(words, vectors), id="test")
    return TextVectors(cast("Any", loaded))


def make_service(inference: ScriptedInference | None = None, **extras: Any) -> Service:
    """Return a service with a scripted model."""
    inference = inference or ScriptedInference()
    assistants = cast("Any", ScriptedAssistants(inference))
    workers = ThreadPoolExecutor(32)
    answering = Answering(AnswerParts(assistants, workers))
    extras = {"vectors": make_vectors(), **extras}
    return Service(ServiceSettings(), cast("Any", inference), assistants, answering, make_routers(), extras)


@dataclass
class RunningServer:
    """A server in a thread of this process. `raw` sends bytes and returns what comes back."""

    port: int
    service: Service

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def raw(self, data: bytes, seconds: float = 10.0) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), seconds) as connection:
            connection.sendall(data)
            received = b""
            while piece := connection.recv(65_536):
                received += piece
            return received


@contextmanager
def run_server(service: Service) -> Iterator[RunningServer]:
    """Serve until the block ends."""
    config = uvicorn.Config(
        make_app(service),
        http=HttpProtocol,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        log_level="critical",
        access_log=False,
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield RunningServer(listener.getsockname()[1], service)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
