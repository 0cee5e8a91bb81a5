"""POST /v1/responses, and what was kept of them: GET, DELETE, input_items."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Path, Request, Response

from service.access.caller import Caller
from service.api.http.watched_response import EventStream, WatchedResponse
from service.api.reading.read_responses import REFUSED_RESPONSE, read_response
from service.api.rendering.render_chat import dump
from service.api.rendering.render_responses import ResponseAnswer
from service.api.response_store import ResponseStore, StoredResponse
from service.api.route_parts import KeyedRoute, get_caller, get_request_id, get_service, make_headers
from service.api.wire.response_reply_wire import DeletedReply, InputItemsReply, ResponseReply
from service.api.wire.response_wire import ResponseRequest
from service.api.wire.wire_model import ERRORS
from service.service_error import ServiceError

RESPONSES = "responses"  # in `Service.extras`: what is kept
ResponseId = Annotated[str, Path(min_length=1, max_length=128)]


def make_router() -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=KeyedRoute, tags=["responses"])
    stream = {"text/event-stream": {"schema": {"type": "string"}}}

    @router.post("/v1/responses", responses={**ERRORS, 200: {"model": ResponseReply, "content": stream}})
    async def create_response(body: ResponseRequest, request: Request) -> Response:
        """Answer a text or items."""
        service, caller = get_service(request), await get_caller(request, "chat")
        store = _get_store(request)
        previous = _get_previous(store, caller, body)
        asked = read_response(service, caller, get_request_id(request), body, previous)
        keep = None if body.store is False else lambda response: store.put(caller, response)
        answer = ResponseAnswer(service.answering, asked, body, service.inference.description, keep)
        headers = make_headers(body, "direct" if asked.is_direct else "assistant", REFUSED_RESPONSE)
        if body.stream:
            return EventStream(answer.stream(), headers, answer.late_headers, answer.format_error)
        return WatchedResponse(answer.collect(), headers, answer.late_headers)

    @router.post("/v1/responses/compact", include_in_schema=False)
    async def compact_response() -> Response:
        """Refuse: there is no compaction."""
        message = (
            "path: there is no compaction; found a conversation to compact; send truncation: auto to /v1/responses."
        )
        raise ServiceError(404, message, code="unknown_path")

    @router.get("/v1/responses/{response_id}", responses=_document(ResponseReply))
    async def get_response(response_id: ResponseId, request: Request) -> Response:
        """Return a response of the last hour."""
        stored = _get(_get_store(request), await get_caller(request, "chat"), response_id)
        return Response(dump(stored.body), media_type="application/json")

    @router.delete("/v1/responses/{response_id}", responses=_document(DeletedReply))
    async def delete_response(response_id: ResponseId, request: Request) -> Response:
        """Forget a response."""
        caller, store = await get_caller(request, "chat"), _get_store(request)
        _get(store, caller, response_id)
        store.delete(caller, response_id)
        body = {"id": response_id, "object": "response", "deleted": True}
        return Response(dump(body), media_type="application/json")

    @router.get("/v1/responses/{response_id}/input_items", responses=_document(InputItemsReply))
    async def list_input_items(response_id: ResponseId, request: Request) -> Response:
        """Return the items that a response was given."""
        items = _get(_get_store(request), await get_caller(request, "chat"), response_id).items
        first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
        body = {"object": "list", "data": list(items), "first_id": first, "last_id": last, "has_more": False}
        return Response(dump(body), media_type="application/json")

    return router


def _document(reply: type) -> dict[int | str, dict[str, Any]]:
    return {**{status: ERRORS[status] for status in (400, 401, 403, 404, 429, 500, 503)}, 200: {"model": reply}}


def _get_store(request: Request) -> ResponseStore:
    """Return the responses of this service."""
    return cast("ResponseStore", get_service(request).extras.setdefault(RESPONSES, ResponseStore()))


def _get(store: ResponseStore, caller: Caller, id: str) -> StoredResponse:
    stored = store.get(caller, id)
    if stored is None:
        message = (
            f"response_id: there is no such response; found {id[:60]!r}; responses are kept for an hour, in memory."
        )
        raise ServiceError(404, message, code="response_not_found", param="response_id")
    return stored


def _get_previous(store: ResponseStore, caller: Caller, body: ResponseRequest) -> StoredResponse | None:
    if body.previous_response_id is None:
        return None
    stored = store.get(caller, body.previous_response_id)
    if stored is None:
        found = body.previous_response_id[:60]
        message = (
            f"previous_response_id: there is no such response; found {found!r}; they are kept for an hour, in memory: "
            "send the conversation as input."
        )
        raise ServiceError(400, message, code="previous_response_not_found", param="previous_response_id")
    return stored
