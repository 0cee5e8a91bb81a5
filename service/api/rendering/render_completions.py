"""Render answers as text completions: several prompts of one request, each with its choices, whole or streamed."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from service.answers.answer_request import AnswerRequest
from service.answers.answering import Answering
from service.answers.interfaces import ChosenToken, ModelDescription
from service.api.http.watched_response import DONE
from service.api.rendering.answer_reader import ChoiceReader, TextDelta
from service.api.rendering.merge_choices import merge_choices
from service.api.rendering.render_chat import describe_answer, dump, make_fingerprint, make_id, make_usage


class CompletionAnswer:
    """The completions of one request: prompt by prompt, so that a batch takes no more of the engine than its choices."""

    def __init__(
        self, answering: Answering, requests: Sequence[AnswerRequest], model: ModelDescription, *, has_echo: bool
    ) -> None:
        self._answering, self._requests, self._model, self._has_echo = answering, requests, model, has_echo
        self.late_headers: dict[str, str] = {}  # of the response, known when the request is admitted
        self._readers = [[ChoiceReader(request) for _ in range(request.n)] for request in requests]
        self._common = {
            "id": make_id(requests[0], "cmpl-"),
            "object": "text_completion",
            "created": int(time.time()),
            "model": requests[0].model,
            "system_fingerprint": make_fingerprint(model),
        }

    async def collect(self) -> AsyncGenerator[bytes, None]:
        """Yield the whole response."""
        choices: list[dict[str, Any]] = []
        for request, readers in zip(self._requests, self._readers, strict=True):
            async with self._answering.open(request) as answer:
                self.late_headers.update(answer.headers)
                async for _ in merge_choices(answer, readers):
                    pass
            choices += [self._format_choice(len(choices) + i, request, one) for i, one in enumerate(readers)]
        about = describe_answer(self._requests[0], self._model)
        yield dump({**self._common, "choices": choices, "usage": self._make_usage(), "minigpt": about})

    async def stream(self, *, has_usage: bool) -> AsyncGenerator[bytes, None]:
        """Yield the events of the stream."""
        more: dict[str, Any] = {"usage": None} if has_usage else {}
        first = 0
        for request, readers in zip(self._requests, self._readers, strict=True):
            async with self._answering.open(request) as answer:
                self.late_headers.update(answer.headers)
                if self._has_echo:
                    for choice in range(request.n):
                        yield self._format_chunk(first + choice, TextDelta(request.prompt or ""), None, more)
                async for choice, deltas, is_end in merge_choices(answer, readers):
                    for delta in deltas:
                        if isinstance(delta, TextDelta):
                            yield self._format_chunk(first + choice, delta, None, more)
                    if is_end:
                        finish_reason = readers[choice].finish_reason
                        yield self._format_chunk(first + choice, TextDelta(""), finish_reason, more)
            first += request.n
        if has_usage:
            yield b"data: " + dump({**self._common, "choices": [], "usage": self._make_usage()}) + b"\n\n"
        yield DONE

    def _format_chunk(self, index: int, delta: TextDelta, finish_reason: str | None, more: dict[str, Any]) -> bytes:
        row = {
            "index": index,
            "text": delta.text,
            "logprobs": self._format_logprobs(delta.tokens, 0),
            "finish_reason": finish_reason,
        }
        return b"data: " + dump({**self._common, "choices": [row], **more}) + b"\n\n"

    def _format_choice(self, index: int, request: AnswerRequest, reader: ChoiceReader) -> dict[str, Any]:
        prompt = (request.prompt or "") if self._has_echo else ""
        return {
            "index": index,
            "text": prompt + "".join(reader.text),
            "logprobs": self._format_logprobs(reader.tokens, len(prompt)),
            "finish_reason": reader.finish_reason,
        }

    def _format_logprobs(self, tokens: Sequence[ChosenToken], offset: int) -> dict[str, Any] | None:
        if self._requests[0].controls.n_logprobs is None:
            return None
        offsets: list[int] = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
        return {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{text: logprob for text, _, logprob in token.alternatives} for token in tokens],
            "text_offset": offsets,
        }

    def _make_usage(self) -> dict[str, Any]:
        parts = [make_usage(readers) for readers in self._readers]
        total = {
            key: sum(part[key] for part in parts) for key in ("prompt_tokens", "completion_tokens", "total_tokens")
        }
        cached = sum(part["prompt_tokens_details"]["cached_tokens"] for part in parts)
        return {
            **total,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }
