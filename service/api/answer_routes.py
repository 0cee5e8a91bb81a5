"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response

from service.api.http.request_limits import make_request_id
from service.api.http.watched_response import EventStream, WatchedResponse
from service.api.reading.read_messages import REFUSED_MESSAGE
from service.api.reading.read_request import REFUSED_CHAT, REFUSED_COMPLETION, read_chat, read_completions
from service.api.rendering.render_chat import ChatAnswer
from service.api.rendering.render_completions import CompletionAnswer
from service.api.route_parts import KeyedRoute, get_caller, get_request_id, get_service, make_headers
from service.api.wire.chat_reply_wire import ChatReply, CompletionReply
from service.api.wire.chat_wire import ChatRequest, SamplingWire
from service.api.wire.completion_wire import CompletionRequest
from service.api.wire.wire_model import ERRORS
from service.service_error import ServiceError

STREAM: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}


def make_router() -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=KeyedRoute, tags=["answers"])

    @router.post("/v1/chat/completions", responses=_document(ChatReply))
    async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        service, caller = get_service(request), await get_caller(request, "chat")
        asked = read_chat(service, caller, get_request_id(request), body)
        answer = ChatAnswer(service.answering, asked, service.inference.description)
        headers = make_headers(body, "direct" if asked.is_direct else "assistant", {*REFUSED_CHAT, *REFUSED_MESSAGE})
        if body.stream:
            return EventStream(answer.stream(has_usage=_has_usage(body)), headers, answer.late_headers)
        _check_stream_options(body)
        return WatchedResponse(answer.collect(), headers, answer.late_headers)

    @router.post("/v1/completions", responses=_document(CompletionReply))
    async def create_completion(body: CompletionRequest, request: Request) -> Response:
        """Continue texts, by the model itself."""
        service, caller = get_service(request), await get_caller(request, "chat")
        first, *others = read_completions(service, caller, get_request_id(request), body)
        asked = [first, *(replace(other, id=make_request_id()) for other in others)]
        answer = CompletionAnswer(service.answering, asked, service.inference.description, has_echo=bool(body.echo))
        headers = make_headers(body, "direct", REFUSED_COMPLETION)
        if body.stream:
            return EventStream(answer.stream(has_usage=_has_usage(body)), headers, answer.late_headers)
        _check_stream_options(body)
        return WatchedResponse(answer.collect(), headers, answer.late_headers)

    return router


def _document(reply: type) -> dict[int | str, dict[str, Any]]:
    return {**ERRORS, 200: {"model": reply, "content": STREAM}}


def _has_usage(body: SamplingWire) -> bool:
    return body.stream_options is not None and bool(body.stream_options.include_usage)


def _check_stream_options(body: SamplingWire) -> None:
    if body.stream_options is not None and body.stream_options.include_usage:
        message = "stream_options: needs a stream; found stream false; send stream: true, or leave it out."
        raise ServiceError(400, message, code="invalid_value", param="stream_options")
