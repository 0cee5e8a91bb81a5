"""Translate direct answers to the OpenAI wire format of other engines and back. Pure: JSON values in, values out.

In: an `AnswerRequest`; then the chunks of a stream. Out: the body of a call; then pieces, at the end one tool call or the rest.
What the other engine would silently leave out is refused here: regular expressions and a minimum of tokens have no field there.
Chunks are from outside: each field is checked, and what is no chunk is an error 502.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from assistant.conversation.events import Done, Message, ToolCall
from service.answers.answer_request import AnswerRequest, OutputConstraint
from service.answers.interfaces import ChosenToken, DirectPiece
from service.service_error import ServiceError

JSON = Any
REASONS = {"stop": "end", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}
MAX_CALL_CHARS = 100_000  # of a tool call's arguments


def make_body(request: AnswerRequest, choice: int, model: str) -> tuple[str, dict[str, JSON]]:
    """Return path and body of the call. Raises: ServiceError 400 for what the wire format can't ask for."""
    sampling, controls = request.sampling, request.controls
    if controls.min_tokens:
        raise _refuse("min_tokens", str(controls.min_tokens))
    body: dict[str, JSON] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": (sampling.seed + choice) % 2**31,  # some engines read 32 bits
        "frequency_penalty": controls.frequency_penalty,
        "presence_penalty": controls.presence_penalty,
    }
    if sampling.top_k:
        body["top_k"] = sampling.top_k
    if controls.stop:
        body["stop"] = list(controls.stop)
    if controls.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in controls.logit_bias.items()}
    if request.prompt is not None:
        if request.constraint is not None:
            raise _refuse("response_format", "a constraint on a text completion")
        if controls.n_logprobs is not None:
            body["logprobs"] = controls.n_logprobs
        return "/completions", {**body, "prompt": request.prompt}
    if controls.n_logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": controls.n_logprobs}
    messages = [_write_message(message) for message in request.messages]
    return "/chat/completions", {**body, "messages": messages, **_write_constraint(request.constraint)}


def _write_message(message: Message) -> dict[str, JSON]:
    if message.call is not None:
        function = {
            "name": message.call.name,
            "arguments": json.dumps(dict(message.call.arguments), ensure_ascii=False),
        }
        call = {"id": message.call.id or "call_1", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.call_id or "call_1", "content": message.text}
    return {"role": message.role, "content": message.text}


def _write_constraint(constraint: OutputConstraint | None) -> dict[str, JSON]:
    if constraint is None:
        return {}
    if constraint.kind == "regex":
        raise _refuse("regex", constraint.regex[:40])
    if constraint.kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if constraint.kind == "json_schema":
        schema = {"name": "answer", "schema": dict(constraint.schema), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    tools = [
        {
            "type": "function",
            "function": {"name": each.name, "description": each.description, "parameters": dict(each.parameters)},
        }
        for each in constraint.tools
    ]
    return {"tools": tools, "tool_choice": "required" if constraint.must_call else "auto"}


def _refuse(name: str, found: str) -> ServiceError:
    message = f"{name} can't be passed on to the engine behind this service; found {found!r}; leave it out."
    return ServiceError(400, message, code="unsupported_by_upstream", param=name)


def make_bad_answer(found: str) -> ServiceError:
    """Return the error of an engine whose answer is none."""
    message = f"the engine behind this service answered what is no answer; found {found[:80]}; tell the operator."
    return ServiceError(502, message, code="bad_upstream")


@dataclass
class ChunkReader:
    """Reads the chunks of one answer. `offered`: the tools that may be called; `is_json`: the answer must be JSON."""

    offered: frozenset[str] = frozenset()
    is_json: bool = False
    n_prompt_tokens: int = 0
    n_tokens: int = 0
    reason: str = ""
    _texts: list[str] = field(default_factory=list[str])
    _call_id: str = ""
    _call_name: str = ""
    _arguments: list[str] = field(default_factory=list[str])

    def read(self, chunk: JSON) -> Iterator[DirectPiece]:
        """Yield the text of a chunk. Raises: ServiceError."""
        if not isinstance(chunk, dict):
            raise make_bad_answer("a chunk that is no object")
        if chunk.get("error"):
            raise make_bad_answer("an error in the stream")
        self._read_usage(chunk.get("usage"))
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            raise make_bad_answer("a chunk without choices")
        for row in choices:
            if not isinstance(row, dict) or row.get("index", 0) != 0:
                raise make_bad_answer("another choice than the first")
            yield from self._read_choice(row)

    def finish(self, seconds: float, first_token_seconds: float) -> Iterator[DirectPiece | ToolCall]:
        """Yield the call if the answer is one, and the end. Raises: ServiceError for an answer that is not whole or not valid."""
        if not self.reason:
            raise make_bad_answer("a stream that ended before its answer")
        if self._call_name:
            yield self._make_call()
        elif self.is_json and self.reason == "end":
            try:
                json.loads("".join(self._texts))
            except ValueError:
                raise make_bad_answer("text that is not the JSON that was asked for") from None
        done = Done(self.n_prompt_tokens, self.n_tokens, seconds, first_token_seconds, self.reason)
        yield DirectPiece(done=done)

    def _read_choice(self, row: dict[str, JSON]) -> Iterator[DirectPiece]:
        delta: JSON = row.get("delta") or {"content": row.get("text")}
        if not isinstance(delta, dict):
            raise make_bad_answer("a delta that is no object")
        text = delta.get("content") or ""
        if not isinstance(text, str):
            raise make_bad_answer("content that is no text")
        tokens = tuple(_read_tokens(row.get("logprobs")))
        for call in delta.get("tool_calls") or ():
            self._read_call(call)
        if text or tokens:
            self.n_tokens += 1  # until the usage says it exactly
            self._texts += [text] if self.is_json else []
            yield DirectPiece(text, tokens)
        if (reason := row.get("finish_reason")) is not None:
            self.reason = REASONS.get(reason, "") if isinstance(reason, str) else ""
            if not self.reason:
                raise make_bad_answer(f"finish_reason {reason!r}")

    def _read_call(self, call: JSON) -> None:
        function: JSON = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise make_bad_answer("a tool call without a function")
        if call.get("index", 0) != 0:
            return  # one call an answer: the first
        name, arguments = function.get("name") or "", function.get("arguments") or ""
        if not isinstance(name, str) or not isinstance(arguments, str):
            raise make_bad_answer("a tool call whose name or arguments are no text")
        self._call_id = self._call_id or str(call.get("id") or "")[:80]
        self._call_name += name
        self._arguments.append(arguments)
        if sum(map(len, self._arguments)) > MAX_CALL_CHARS:
            raise make_bad_answer("a tool call with too long arguments")

    def _make_call(self) -> ToolCall:
        if self._call_name not in self.offered:
            raise make_bad_answer("a call of a tool that was not offered")
        try:
            arguments = json.loads("".join(self._arguments) or "{}")
        except ValueError:
            raise make_bad_answer("a tool call whose arguments are not JSON") from None
        if not isinstance(arguments, dict):
            raise make_bad_answer("a tool call whose arguments are no object")
        self.reason = "tool_calls"
        return ToolCall(self._call_id or "call_1", self._call_name, arguments)

    def _read_usage(self, usage: JSON) -> None:
        if not isinstance(usage, dict):
            return
        n_prompt, n_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if isinstance(n_prompt, int) and isinstance(n_tokens, int) and 0 <= n_prompt < 2**31 and 0 <= n_tokens < 2**31:
            self.n_prompt_tokens, self.n_tokens = n_prompt, n_tokens


def _read_tokens(logprobs: JSON) -> Iterator[ChosenToken]:
    """Yield the tokens of a chat chunk that states them; other formats (text completions') are passed over."""
    rows: JSON = logprobs.get("content") if isinstance(logprobs, dict) else None
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("token"), str) and isinstance(row.get("logprob"), int | float):
            others: JSON = row.get("top_logprobs")
            alternatives = tuple(
                (each["token"], tuple(each["token"].encode()), float(each["logprob"]))
                for each in (others if isinstance(others, list) else ())
                if isinstance(each, dict)
                and isinstance(each.get("token"), str)
                and isinstance(each.get("logprob"), int | float)
            )
            yield ChosenToken(-1, row["token"], tuple(row["token"].encode()), float(row["logprob"]), alternatives)


def read_seq_len(model: Mapping[str, JSON]) -> int:
    """Return the window that a model states (vLLM: max_model_len; llama.cpp: meta.n_ctx_train); 0 if it states none."""
    meta: JSON = model.get("meta")
    values = [model.get("max_model_len"), model.get("context_length")]
    values += [meta.get("n_ctx"), meta.get("n_ctx_train")] if isinstance(meta, dict) else []
    return next((value for value in values if isinstance(value, int) and 0 < value < 2**31), 0)
