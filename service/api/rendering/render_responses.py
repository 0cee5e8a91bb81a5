"""Render an answer as a response of the Responses API: whole, or as the events that Open Responses specifies.

In: an open answer. Out: bytes. The output is one message, or calls of tools that the request offered; what the server's own tools
did is in the field `minigpt`. A message's item is opened by its first text.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from assistant.conversation.events import Message, ToolCall
from service.answers.answer_request import AnswerRequest
from service.answers.answering import Answering
from service.answers.interfaces import ModelDescription
from service.api.http.watched_response import DONE
from service.api.rendering.answer_reader import CallDelta, ChoiceReader, Delta, TextDelta
from service.api.rendering.merge_choices import merge_choices
from service.api.rendering.render_chat import describe_answer, dump, format_logprobs, make_fingerprint, make_id
from service.api.response_store import StoredResponse
from service.api.wire.response_wire import ResponseRequest
from service.service_error import ServiceError

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponseAnswer:
    """One response that is being made."""

    def __init__(
        self,
        answering: Answering,
        request: AnswerRequest,
        body: ResponseRequest,
        model: ModelDescription,
        keep: Callable[[StoredResponse], None] | None,
    ) -> None:
        self._answering, self._request, self._body, self._keep = answering, request, body, keep
        self.late_headers: dict[str, str] = {}  # of the response, known when the request is admitted
        self._reader = ChoiceReader(request)
        self._id, self._message_id = make_id(request, "resp_"), make_id(request, "msg_")
        self._created, self._number, self._is_open = int(time.time()), 0, False
        self._about = {
            **describe_answer(request, model),
            "fingerprint": make_fingerprint(model),
            "lineage": dict(model.lineage),
        }

    async def collect(self) -> AsyncGenerator[bytes, None]:
        """Yield the whole response."""
        async with self._answering.open(self._request) as answer:
            self.late_headers.update(answer.headers)
            async for _ in merge_choices(answer, [self._reader]):
                pass
        yield dump(self._finish())

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the events of the stream."""
        async with self._answering.open(self._request) as answer:
            self.late_headers.update(answer.headers)
            snapshot = {"response": self._format_response("in_progress")}
            yield self._format_event("response.created", snapshot) + self._format_event(
                "response.in_progress", snapshot
            )
            async for _, deltas, is_end in merge_choices(answer, [self._reader]):
                frames = [frame for delta in deltas for frame in self._format_delta(delta)]
                if is_end and not self._reader.calls:
                    frames += self._close_message()
                if frames:
                    yield b"".join(frames)
        response = self._finish()
        yield self._format_event(f"response.{response['status']}", {"response": response}) + DONE

    def format_error(self, error: ServiceError) -> bytes:
        """Return the last events of a stream that fails: the error, and the response that failed."""
        detail = error.to_json()["error"]
        failed = self._format_response("failed")
        failed["error"] = {"code": detail["code"] or "server_error", "message": detail["message"]}
        flat = {key: detail[key] for key in ("code", "message", "param")}
        return (
            self._format_event("error", {**flat, "error": detail})
            + self._format_event("response.failed", {"response": failed})
            + DONE
        )

    def _finish(self) -> dict[str, Any]:
        status = "incomplete" if self._reader.finish_reason in INCOMPLETE else "completed"
        response = self._format_response(status)
        if self._keep is not None:
            items = tuple(_list_items(self._body, self._id))
            kept = tuple(message for message in self._request.messages if not self._is_instruction(message))
            size = len(dump(response)) + sum(len(message.text) for message in kept) + len(dump(list(items)))
            self._keep(StoredResponse(response, items, (*kept, *self._list_answers()), size))
        return response

    def _is_instruction(self, message: Message) -> bool:
        """Return whether a message is this request's instructions, which the next response does not inherit."""
        return bool(self._body.instructions) and message is self._request.messages[0]

    def _list_answers(self) -> list[Message]:
        calls = [Message.calling(ToolCall(call.id, call.name, call.values)) for call in self._reader.calls]
        text = "".join(self._reader.text)
        return [Message.of("assistant", text), *calls] if text or not calls else calls

    def _format_delta(self, delta: Delta) -> Iterator[bytes]:
        if isinstance(delta, TextDelta):
            if not self._is_open:
                yield self._open_message()
            logprobs = format_logprobs(delta.tokens)["content"]
            yield self._format_event(
                "response.output_text.delta", {**self._place(), "delta": delta.text, "logprobs": logprobs}
            )
        elif isinstance(delta, CallDelta):
            yield from self._format_call_events(delta)

    def _open_message(self) -> bytes:
        self._is_open = True
        item = {**self._format_message("in_progress"), "content": []}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return self._format_event("response.output_item.added", {"output_index": 0, "item": item}) + self._format_event(
            "response.content_part.added", {**self._place(), "part": part}
        )

    def _close_message(self) -> Iterator[bytes]:
        if not self._is_open:
            yield self._open_message()
        message = self._format_message("incomplete" if self._reader.finish_reason in INCOMPLETE else "completed")
        part = message["content"][0]
        for index, annotation in enumerate(part["annotations"]):
            yield self._format_event(
                "response.output_text.annotation.added",
                {**self._place(), "annotation_index": index, "annotation": annotation},
            )
        text = {"text": part["text"], "logprobs": part["logprobs"]}
        yield self._format_event("response.output_text.done", {**self._place(), **text})
        yield self._format_event("response.content_part.done", {**self._place(), "part": part})
        yield self._format_event("response.output_item.done", {"output_index": 0, "item": message})

    def _format_call_events(self, call: CallDelta) -> Iterator[bytes]:
        index = call.index + self._reader.has_text
        if call.index == 0 and self._reader.has_text:
            yield from self._close_message()
        item = self._format_call(call, "completed")
        begun = {**item, "arguments": "", "status": "in_progress"}
        place = {"item_id": item["id"], "output_index": index}
        yield self._format_event("response.output_item.added", {"output_index": index, "item": begun})
        yield self._format_event("response.function_call_arguments.delta", {**place, "delta": call.arguments})
        yield self._format_event(
            "response.function_call_arguments.done", {**place, "name": call.name, "arguments": call.arguments}
        )
        yield self._format_event("response.output_item.done", {"output_index": index, "item": item})

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._message_id, "output_index": 0, "content_index": 0}

    def _format_event(self, kind: str, value: dict[str, Any]) -> bytes:
        number, self._number = self._number, self._number + 1
        data = dump({"type": kind, "sequence_number": number, **value})
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def _format_message(self, status: str) -> dict[str, Any]:
        reader = self._reader
        logprobs = format_logprobs(reader.tokens)["content"] if self._request.controls.n_logprobs is not None else []
        part = {
            "type": "output_text",
            "text": "".join(reader.text),
            "annotations": [{"type": "url_citation", **row} for row in reader.make_annotations()],
            "logprobs": logprobs,
        }
        return {"type": "message", "id": self._message_id, "status": status, "role": "assistant", "content": [part]}

    def _format_call(self, call: CallDelta, status: str) -> dict[str, Any]:
        id = make_id(self._request, f"fc_{call.index}_")
        return {
            "type": "function_call",
            "id": id,
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": status,
        }

    def _format_response(self, status: str) -> dict[str, Any]:
        """Return the response in one of its states, with the settings that it is made by."""
        body, reader, is_over = self._body, self._reader, status in ("completed", "incomplete")
        output = [self._format_call(call, "completed") for call in reader.calls]
        if is_over and (reader.has_text or not output):
            output.insert(0, self._format_message(status))
        text = body.text.model_dump(by_alias=True, exclude_none=True) if body.text is not None else {}
        reason = {"reason": INCOMPLETE[reader.finish_reason]} if status == "incomplete" else None
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if is_over else None,
            "status": status,
            "incomplete_details": reason,
            "model": body.model,
            "previous_response_id": body.previous_response_id,
            "instructions": body.instructions,
            "output": output,
            "error": None,
            "tools": [
                {
                    "description": None,
                    "parameters": None,
                    **tool.model_dump(exclude_none=True),
                    "strict": bool(tool.strict),
                }
                for tool in body.tools or []
            ],
            "tool_choice": _dump_choice(body),
            "truncation": body.truncation or "disabled",
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "text": {"format": {"type": "text"}, "verbosity": "medium", **text},
            "top_p": self._request.sampling.top_p,
            "presence_penalty": body.presence_penalty or 0.0,
            "frequency_penalty": body.frequency_penalty or 0.0,
            "top_logprobs": body.top_logprobs or 0,
            "temperature": self._request.sampling.temperature,
            "reasoning": {"effort": None, "summary": None},
            "usage": self._format_usage() if is_over else None,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": None,
            "store": self._keep is not None,
            "background": False,
            "service_tier": "default",
            "metadata": dict(body.metadata or {}),
            "safety_identifier": body.safety_identifier,
            "prompt_cache_key": body.prompt_cache_key,
            "user": body.user,
            "minigpt": {**self._about, **(reader.get_evidence() if is_over else {})},
        }

    def _format_usage(self) -> dict[str, Any]:
        reader = self._reader
        return {
            "input_tokens": reader.n_prompt_tokens,
            "input_tokens_details": {"cached_tokens": reader.n_cached_tokens, "cache_write_tokens": 0},
            "output_tokens": reader.n_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": reader.n_prompt_tokens + reader.n_tokens,
        }


def _dump_choice(body: ResponseRequest) -> Any:
    choice = body.tool_choice
    if choice is None or isinstance(choice, str):
        return choice or "auto"
    return choice.model_dump(exclude_none=True)


def _list_items(body: ResponseRequest, id: str) -> Iterator[dict[str, Any]]:
    """Yield the items of the input as GET returns them, each with an id."""
    if isinstance(body.input, str):
        part = {"type": "input_text", "text": body.input}
        yield {"type": "message", "id": f"{id}_0", "status": "completed", "role": "user", "content": [part]}
        return
    for index, item in enumerate(body.input):
        row = item.model_dump(exclude_none=True)
        row = {"id": f"{id}_{index}", "status": "completed", **row}
        if row["type"] == "message" and isinstance(row["content"], str):
            kind = "output_text" if row["role"] == "assistant" else "input_text"
            more = {"annotations": []} if kind == "output_text" else {}
            row["content"] = [{"type": kind, "text": row["content"], **more}]
        yield row
