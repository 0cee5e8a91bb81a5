"""The part `inference`: one model, for gateways. Everything that a gateway knows of conversations comes with each call.

In: calls `reply` (of a session) and `generate` (a direct answer). Out: their events. What was computed of the last `MAX_CACHES`
conversations is kept; it is taken out while it is used, and another reply of the same conversation begins without it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Executor
from contextlib import aclosing
from threading import Lock
from typing import Any

from assistant.conversation.events import ConversationCache, Event
from service.answers.interfaces import Inference
from service.answers.stream_from_thread import stream_from_thread
from service.inference.remote_engine import InferenceAbout
from service.processes.part_protocol import DirectCall, ReplyCall, decode
from service.processes.part_server import PartRoutes

MAX_CACHES = 512


class CacheStore:
    """The caches of the last conversations, by tenant and name. Thread-safe."""

    def __init__(self, size: int = MAX_CACHES) -> None:
        self._caches: OrderedDict[tuple[str, str, str], ConversationCache] = OrderedDict()
        self._size, self._lock = size, Lock()

    def take(self, key: tuple[str, str, str]) -> ConversationCache:
        """Return the cache of a conversation, which nobody else gets meanwhile; an empty one if there is none."""
        with self._lock:
            return self._caches.pop(key, None) or ConversationCache()

    def put(self, key: tuple[str, str, str], cache: ConversationCache) -> None:
        """Keep a cache for the next reply."""
        with self._lock:
            self._caches[key] = cache
            while len(self._caches) > self._size:
                self._caches.popitem(last=False)


class InferencePart:
    """The calls of the part, over an `Inference` of this process."""

    def __init__(self, inference: Inference, read_tokenizer: Callable[[], str], workers: Executor) -> None:
        """`read_tokenizer` returns the content of the present model's tokenizer.json."""
        self._inference, self._read_tokenizer = inference, read_tokenizer
        self._workers, self._caches = workers, CacheStore()

    def make_routes(self) -> PartRoutes:
        """Return the calls by name."""
        return PartRoutes(
            "inference",
            self.describe,
            {"reply": self.reply, "generate": self.generate},
            {"tokenizer": self.get_tokenizer},
        )

    def describe(self) -> InferenceAbout:
        """Return what is served now."""
        sha256 = hashlib.sha256(self._read_tokenizer().encode()).hexdigest()
        return InferenceAbout(self._inference.description, sha256)

    async def reply(self, body: bytes) -> AsyncGenerator[Event, None]:
        """Yield the events of a session's reply."""
        call = await asyncio.to_thread(decode, ReplyCall, body)
        events = stream_from_thread(self._workers, lambda: self._run(call))
        async with aclosing(events):
            async for event in events:
                yield event

    def _run(self, call: ReplyCall) -> Generator[Event, None, None]:
        engine = self._inference.get_engine(call.tenant, call.adapter)
        if call.text is not None:
            yield from engine.continue_text(call.text, call.sampling)
            return
        key = (call.tenant, call.adapter, call.cache)
        cache = self._caches.take(key) if call.cache else ConversationCache()
        try:
            yield from engine.reply(call.messages, call.sampling, cache, call.options)
        finally:
            if call.cache:
                self._caches.put(key, cache)

    async def generate(self, body: bytes) -> AsyncGenerator[Any, None]:
        """Yield the pieces of a direct answer."""
        call = decode(DirectCall, body)
        pieces = self._inference.generate(call.request, call.choice)
        try:
            async for piece in pieces:
                yield piece
        finally:
            if (close := getattr(pieces, "aclose", None)) is not None:
                await close()

    async def get_tokenizer(self, body: bytes) -> str:
        """Return the content of tokenizer.json."""
        return self._read_tokenizer()
