"""Render answers as chat completions: whole, or as chunks of server-sent events.

In: an open answer. Out: bytes. What every chunk repeats is encoded once; a chunk of text costs the JSON string of its text. The
format of the field `minigpt` is in docs/api.md.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from service.answers.answer_request import AnswerRequest
from service.answers.answering import Answering
from service.answers.interfaces import ChosenToken, ModelDescription
from service.api.http.watched_response import DONE
from service.api.rendering.answer_reader import CallDelta, ChoiceReader, Delta, TextDelta
from service.api.rendering.merge_choices import merge_choices


def dump(value: Any) -> bytes:
    """Return compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def make_fingerprint(model: ModelDescription) -> str:
    """Return the version and a hash of the lineage: what an answer depends on besides the request."""
    lineage = json.dumps(dict(model.lineage), sort_keys=True)
    return f"{model.name}-{model.version or 'local'}-{hashlib.sha256(lineage.encode()).hexdigest()[:12]}"


def make_id(request: AnswerRequest, prefix: str) -> str:
    """Return the id of an answer in a wire format: the request's 24 characters behind another prefix."""
    return prefix + request.id.removeprefix("req_")


def describe_answer(request: AnswerRequest, model: ModelDescription) -> dict[str, Any]:
    """Return how an answer is made: the common part of every `minigpt` object."""
    return {
        "request": request.id,
        "answer": make_id(request, "ans_"),
        "mode": "direct" if request.is_direct else "assistant",
        "profile": request.profile,
        "version": model.version,
        "model": model.name,
    }


def make_usage(readers: Sequence[ChoiceReader]) -> dict[str, Any]:
    """Return the tokens of all choices; the prompt, which they share, counts once."""
    n_prompt = readers[0].n_prompt_tokens
    n = sum(reader.n_tokens for reader in readers)
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n,
        "total_tokens": n_prompt + n,
        "prompt_tokens_details": {"cached_tokens": readers[0].n_cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def format_logprobs(tokens: Sequence[ChosenToken]) -> dict[str, Any]:
    """Return log-probabilities in the form of chat."""
    return {
        "content": [
            {
                "token": token.text,
                "logprob": token.logprob,
                "bytes": list(token.bytes),
                "top_logprobs": [
                    {"token": text, "logprob": logprob, "bytes": list(data)}
                    for text, data, logprob in token.alternatives
                ],
            }
            for token in tokens
        ],
        "refusal": None,
    }


class ChatAnswer:
    """One chat completion that is being made."""

    def __init__(self, answering: Answering, request: AnswerRequest, model: ModelDescription) -> None:
        self._answering, self._request, self._model = answering, request, model
        self.late_headers: dict[str, str] = {}  # of the response, known when the request is admitted
        self._readers = [ChoiceReader(request) for _ in range(request.n)]
        self._has_logprobs = request.controls.n_logprobs is not None
        self._common = {
            "id": make_id(request, "chatcmpl-"),
            "created": int(time.time()),
            "model": request.model,
            "system_fingerprint": make_fingerprint(model),
            "service_tier": "default",
        }

    async def collect(self) -> AsyncGenerator[bytes, None]:
        """Yield the whole response."""
        async with self._answering.open(self._request) as answer:
            self.late_headers.update(answer.headers)
            async for _ in merge_choices(answer, self._readers):
                pass
        body = {
            **self._common,
            "object": "chat.completion",
            "choices": [self._format_choice(index, reader) for index, reader in enumerate(self._readers)],
            "usage": make_usage(self._readers),
            "minigpt": {**describe_answer(self._request, self._model), "lineage": dict(self._model.lineage)},
        }
        if self._request.metadata:
            body["metadata"] = dict(self._request.metadata)
        yield dump(body)

    def _format_choice(self, index: int, reader: ChoiceReader) -> dict[str, Any]:
        text = "".join(reader.text)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if reader.calls and not text else text,
            "refusal": None,
            "annotations": [{"type": "url_citation", "url_citation": row} for row in reader.make_annotations()],
        }
        if reader.calls:
            message["tool_calls"] = [_format_call(call) for call in reader.calls]
        return {
            "index": index,
            "message": message,
            "logprobs": format_logprobs(reader.tokens) if self._has_logprobs else None,
            "finish_reason": reader.finish_reason,
            "minigpt": reader.get_evidence(),
        }

    async def stream(self, *, has_usage: bool) -> AsyncGenerator[bytes, None]:
        """Yield the events of the stream."""
        head = dump({**self._common, "object": "chat.completion.chunk", **({"usage": None} if has_usage else {})})
        self._heads = [head[:-1] + b',"choices":[{"index":%d,' % index for index in range(self._request.n)]
        async with self._answering.open(self._request) as answer:
            self.late_headers.update(answer.headers)
            yield self._format_start()
            async for choice, deltas, is_end in merge_choices(answer, self._readers):
                frames = [self._format_delta(choice, delta) for delta in deltas]
                yield b"".join([*frames, self._format_end(choice)] if is_end else frames)
        if has_usage:
            usage = {"choices": [], "usage": make_usage(self._readers)}
            yield b"data: " + dump({**self._common, "object": "chat.completion.chunk", **usage}) + b"\n\n"
        yield DONE

    def _format_start(self) -> bytes:
        start = {"type": "start", **describe_answer(self._request, self._model)}
        return b"".join(
            self._format_chunk(choice, {"role": "assistant", "content": "", "refusal": None}, extra=start)
            for choice in range(self._request.n)
        )

    def _format_delta(self, choice: int, delta: Delta) -> bytes:
        if isinstance(delta, TextDelta):
            logprobs = dump(format_logprobs(delta.tokens)) if self._has_logprobs else b"null"
            content = json.dumps(delta.text, ensure_ascii=False).encode("utf-8", "replace")
            return b"".join(
                (b"data: ", self._heads[choice], b'"delta":{"content":', content, b'},"logprobs":', logprobs, _REST)
            )
        if isinstance(delta, CallDelta):
            return self._format_chunk(choice, {"tool_calls": [{"index": delta.index, **_format_call(delta)}]})
        return self._format_chunk(choice, {}, extra=delta.value)

    def _format_end(self, choice: int) -> bytes:
        reader = self._readers[choice]
        annotations = [{"type": "url_citation", "url_citation": row} for row in reader.make_annotations()]
        delta = {"annotations": annotations} if annotations else {}
        return self._format_chunk(choice, delta, finish_reason=reader.finish_reason)

    def _format_chunk(
        self, choice: int, delta: dict[str, Any], finish_reason: str | None = None, extra: dict[str, Any] | None = None
    ) -> bytes:
        end = dump({"delta": delta, "logprobs": None, "finish_reason": finish_reason})[1:] + b"]"
        more = b',"minigpt":' + dump(extra) if extra is not None else b""
        return b"data: " + self._heads[choice] + end + more + b"}\n\n"


_REST = b',"finish_reason":null}]}\n\n'


def _format_call(call: CallDelta) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
