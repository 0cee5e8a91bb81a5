"""The part `inference` as this process sees it: the engine of sessions and the `Inference` of direct answers, over HTTP.

In: a client of the part. Out: the same events, to the byte, as from a model in this process; an instance that dies is routed
around, before the first event without anybody noticing. Tokens are counted here, with the model's own tokenizer, so nothing
waits for the network to be admitted.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

from assistant.conversation.events import ConversationCache, Engine, Event, Message, ReplyOptions, Sampling, ToolCall
from assistant.inference.text_tokens import TextTokens
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import DirectPiece, ModelDescription
from service.inference.part_client import PartClient, PartUnavailableError
from service.processes.part_protocol import DirectCall, ReplyCall


@dataclass(frozen=True)
class InferenceAbout:
    """What the part says about itself. `tokenizer` is the sha256 of its tokenizer.json."""

    description: ModelDescription
    tokenizer: str


class RemoteEngine:
    """An engine of sessions, for worker threads. What it computes of a conversation is cached where it runs."""

    def __init__(self, client: PartClient, tenant: str, adapter: str, is_chat: bool) -> None:
        self._client, self._tenant, self._adapter, self.is_chat = client, tenant, adapter, is_chat

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        cache: ConversationCache | None = None,
        options: ReplyOptions | None = None,
    ) -> Iterator[Event]:
        """Yield text pieces or one tool call, and finally Done. Raises: ServiceError."""
        name = ""
        if cache is not None:
            if not isinstance(cache.engine, RemoteEngine) or not isinstance(cache.prefix, str):
                cache.engine, cache.turns, cache.prefix = self, {}, secrets.token_hex(8)
            name = cache.prefix
        call = ReplyCall(self._tenant, self._adapter, name, tuple(messages), None, sampling, options)
        return self._client.stream("reply", call)

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]:
        """Continue a plain text. Raises: ServiceError."""
        return self._client.stream("reply", ReplyCall(self._tenant, self._adapter, "", (), text, sampling))


class PartInference:
    """An `Inference` in other processes. `connect` waits until one of them answers."""

    def __init__(self, client: PartClient, about: InferenceAbout, tokens: TextTokens) -> None:
        self._client, self._about, self._tokens = client, about, tokens
        self._lock = Lock()

    @classmethod
    def connect(cls, client: PartClient, patience_seconds: float) -> PartInference:
        """Ask until the part answers. Raises: ServiceError after `patience_seconds`."""
        about = client.wait(InferenceAbout, patience_seconds)
        return cls(client, about, _fetch_tokens(client, about))

    @property
    def description(self) -> ModelDescription:
        """What is served, as far as known: `refresh` asks again."""
        return self._about.description

    def refresh(self) -> None:
        """Ask again what is served; blocks. Raises: ServiceError if no instance answers."""
        about = self._client.describe(InferenceAbout)
        tokens = self._tokens if about.tokenizer == self._tokens.sha256 else _fetch_tokens(self._client, about)
        with self._lock:
            self._about, self._tokens = about, tokens

    async def generate(self, request: AnswerRequest, choice: int = 0) -> AsyncGenerator[DirectPiece | ToolCall, None]:
        """Answer directly. Raises: ServiceError."""
        items = self._client.stream_async("generate", DirectCall(request, choice))
        try:
            async for item in items:
                yield item
        finally:
            await items.aclose()

    def get_engine(self, tenant: str, adapter: str = "") -> Engine:
        """Return the engine of a session. An unknown adapter is an error of its first reply."""
        return RemoteEngine(self._client, tenant, adapter, self.description.phase != "pretrain")

    def count_tokens(self, text: str) -> int:
        return len(self.tokenize(text))

    def count_message(self, message: Message) -> int:
        """Return the tokens of a whole turn."""
        return self._tokens.count_turn(message)

    def tokenize(self, text: str) -> list[int]:
        return self._tokens.encode(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        return self._tokens.decode(ids)


def _fetch_tokens(client: PartClient, about: InferenceAbout) -> TextTokens:
    tokens = TextTokens(client.call("tokenizer", None, str))
    if tokens.sha256 != about.tokenizer:  # swapped between the two calls
        raise PartUnavailableError(503, "the model is being swapped; found two tokenizers; try again.", retry_after=1)
    return tokens
