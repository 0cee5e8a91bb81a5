"""POST /v1/feedback for those who got an answer; /v1/admin/feedback for those who review it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, cast

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from service.access.caller import Caller
from service.answers.interfaces import Authorizer
from service.answers.permission import require_permission
from service.api.http.strict_route import StrictRoute
from service.api.route_parts import get_caller, get_service
from service.feedback.feedback_store import MAX_CHARS, Feedback, FeedbackStore, NewFeedback, Rating, Reason, State
from service.observability.trace_recorder import TraceRecorder
from service.service_error import ServiceError

Text = Annotated[str, Field(max_length=MAX_CHARS)]


class FeedbackBody(BaseModel):
    """A person's feedback on an answer. Without `consent` it is counted and read, never trained on."""

    model_config = ConfigDict(extra="forbid")

    answer: Annotated[str, Field(pattern=r"^(ans|req|chatcmpl|cmpl|resp)_?-?[a-z2-7]{1,60}$", max_length=80)]
    rating: Rating
    reason: Reason | None = None
    comment: Text = ""
    correction: Text = ""
    consent: bool = False


class ReviewBody(BaseModel):
    """A reviewer's decision, perhaps with a better correction."""

    model_config = ConfigDict(extra="forbid")

    state: State
    correction: Text | None = None
    titles: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=10)] | None = None


class FeedbackParts(BaseModel):
    """What the routes use, in `service.extras["feedback"]`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    store: FeedbackStore
    authorizer: Any = None
    traces: Any = None


def make_router() -> APIRouter:
    """Return the routes of feedback."""
    router = APIRouter(route_class=StrictRoute)

    @router.post("/v1/feedback", status_code=201)
    async def give_feedback(request: Request, body: FeedbackBody) -> dict[str, Any]:
        parts, caller = _get_parts(request), await get_caller(request, "feedback")
        _authorize(parts, caller, "give_feedback", caller.user, {"owner": caller.user})
        number = body.answer.replace("-", "_").partition("_")[2]
        given = NewFeedback(f"ans_{number}", *_list_fields(body))
        made = await asyncio.to_thread(parts.store.add, caller, given)
        if parts.traces is not None:
            await asyncio.to_thread(cast("TraceRecorder", parts.traces).export_for_feedback, f"req_{number}")
        return {"id": made.id, "object": "feedback", "answer": made.answer, "rating": made.rating, "state": made.state}

    @router.get("/v1/admin/feedback")
    async def list_feedback(
        request: Request,
        state: Annotated[list[State] | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        tenant: str | None = None,
    ) -> dict[str, Any]:
        parts, caller = _get_parts(request), await get_caller(request, "operate")
        whose = _choose_tenant(caller, tenant)
        _authorize(parts, caller, "review_feedback", "", {"tenant": whose})
        rows = await asyncio.to_thread(parts.store.list_feedback, whose, state or (), limit)
        counts = await asyncio.to_thread(parts.store.count, whose)
        return {"object": "list", "data": [describe_feedback(row) for row in rows], "counts": counts}

    @router.post("/v1/admin/feedback/{feedback_id}")
    async def review_feedback(
        request: Request, feedback_id: str, body: ReviewBody, tenant: str | None = None
    ) -> dict[str, Any]:
        parts, caller = _get_parts(request), await get_caller(request, "operate")
        whose = _choose_tenant(caller, tenant)
        _authorize(parts, caller, "review_feedback", feedback_id, {"tenant": whose})
        made = await asyncio.to_thread(
            parts.store.review, whose, feedback_id, body.state, caller.user, body.correction, body.titles
        )
        return describe_feedback(made)

    return router


def describe_feedback(row: Feedback) -> dict[str, Any]:
    """Return a row as a reviewer sees it."""
    return {
        "id": row.id,
        "object": "feedback",
        "tenant": row.tenant,
        "answer": row.answer,
        "time": row.time.isoformat(),
        "rating": row.rating,
        "reason": row.reason or None,
        "comment": row.comment,
        "question": row.question,
        "text": row.text,
        "correction": row.correction,
        "consent": row.consent,
        "titles": list(row.titles),
        "version": row.version,
        "state": row.state,
    }


def _list_fields(body: FeedbackBody) -> tuple[Rating, Reason | None, str, str, bool]:
    return body.rating, body.reason, body.comment, body.correction, body.consent


def _get_parts(request: Request) -> FeedbackParts:
    parts = get_service(request).extras.get("feedback")
    if parts is None:
        raise ServiceError(
            404, "this service takes no feedback; found no journal; start it with one.", code="no_feedback"
        )
    return cast("FeedbackParts", parts)


def _choose_tenant(caller: Caller, tenant: str | None) -> str:
    """Return whose feedback is meant: the caller's tenant's, or for an admin another one's."""
    if tenant is None or tenant == caller.tenant:
        return caller.tenant
    if caller.role != "admin":
        message = "tenant: only an admin may see another tenant's feedback; found another name; leave it out."
        raise ServiceError(403, message, code="forbidden", param="tenant")
    return tenant


def _authorize(parts: FeedbackParts, caller: Caller, action: str, resource: str, context: dict[str, Any]) -> None:
    if parts.authorizer is None:
        return
    decision = cast("Authorizer", parts.authorizer).authorize(caller, action, resource, context)
    require_permission(decision, action)
