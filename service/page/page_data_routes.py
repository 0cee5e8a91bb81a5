"""What only the page needs: who is signed in, the memories of this person, and the views of educators and operators.

    GET    /v1/me
    GET    /v1/memories         DELETE /v1/memories, /v1/memories/NUMBER
    GET    /v1/educator/desk    GET /v1/educator/learners/PROFILE/LEARNER, /v1/educator/handovers/PERSON/NAME
    GET    /v1/admin/desk       GET /v1/admin/desk/REQUEST

All of it is of the caller's own tenant, memories of the caller alone. Whether the caller may is decided in page_access.py. Files
and the database are read in worker threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Query, Request

from service.access.caller import Caller
from service.api.route_parts import get_service
from service.clock import now
from service.database.database import Database
from service.feedback.feedback_routes import FeedbackParts
from service.page.answer_detail import read_detail
from service.page.learner_files import make_educator_desk, read_handover, read_learner
from service.page.memory_access import describe_memory, forget_memories, list_memories
from service.page.operation_desk import WINDOWS, make_operation_desk, read_answers
from service.page.page_access import (
    LEARNERS,
    OPERATION,
    authenticate,
    enter_desk,
    enter_memory,
    get_files,
    list_names,
    may_open,
)
from service.policy.policy_store import PolicyStore
from service.service_error import ServiceError

MAX_FEEDBACK = 50


def make_router() -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    router.add_api_route("/v1/me", send_me, methods=["GET"])
    _add_memory_routes(router)
    _add_educator_routes(router)
    _add_operator_routes(router)
    return router


async def send_me(request: Request) -> dict[str, Any]:
    """Return who the caller is and what the page shows them."""
    caller = await authenticate(request)
    description = get_service(request).inference.description
    desks = [desk for desk in (LEARNERS, OPERATION) if may_open(request, caller, desk)]
    return {
        "object": "caller",
        "tenant": caller.tenant,
        "user": caller.user,
        "role": caller.role,
        "version": description.version or description.phase,
        "has_memory": caller.has_scope("memory"),
        "desks": [{"name": desk.name, "title": desk.title, "url": desk.url} for desk in desks],
    }


def _add_memory_routes(router: APIRouter) -> None:
    @router.get("/v1/memories")
    async def send_memories(request: Request) -> dict[str, Any]:
        caller = await enter_memory(request, "read_memory")
        memories = await asyncio.to_thread(list_memories, get_files(request).get_memory_file(caller))
        return {"object": "list", "data": [describe_memory(memory) for memory in memories]}

    @router.delete("/v1/memories/{number}")
    async def forget_memory(request: Request, number: int) -> dict[str, Any]:
        return await _forget(request, number)

    @router.delete("/v1/memories")
    async def forget_all_memories(request: Request) -> dict[str, Any]:
        return await _forget(request, None)


async def _forget(request: Request, number: int | None) -> dict[str, Any]:
    caller = await enter_memory(request, "write_memory")
    n_forgotten = await asyncio.to_thread(forget_memories, get_files(request).get_memory_file(caller), number)
    get_service(request).assistants.sessions.drop(caller.tenant, caller.user)  # a running session has read them
    return {"object": "memory.deleted", "n_forgotten": n_forgotten}


def _add_educator_routes(router: APIRouter) -> None:
    @router.get("/v1/educator/desk")
    async def send_educator_desk(request: Request) -> dict[str, Any]:
        caller = await enter_desk(request, LEARNERS)
        folder, names = get_files(request).get_folder(caller.tenant), await _name_people(request, caller)
        return await asyncio.to_thread(make_educator_desk, folder, names)

    @router.get("/v1/educator/learners/{profile}/{learner}")
    async def send_learner(request: Request, profile: str, learner: str) -> dict[str, Any]:
        caller = await enter_desk(request, LEARNERS, learner)
        folder, names = get_files(request).get_folder(caller.tenant), await _name_people(request, caller)
        return await asyncio.to_thread(read_learner, folder, profile, learner, names)

    @router.get("/v1/educator/handovers/{person}/{name}")
    async def send_handover(request: Request, person: str, name: str) -> dict[str, Any]:
        caller = await enter_desk(request, LEARNERS, name)
        return await asyncio.to_thread(read_handover, get_files(request).get_folder(caller.tenant), person, name)


async def _name_people(request: Request, caller: Caller) -> dict[str, str]:
    return await asyncio.to_thread(list_names, request, caller)


def _add_operator_routes(router: APIRouter) -> None:
    @router.get("/v1/admin/desk")
    async def send_operation_desk(
        request: Request, window: Annotated[Literal["hour", "day", "week"], Query()] = "hour"
    ) -> dict[str, Any]:
        caller = await enter_desk(request, OPERATION)
        return await asyncio.to_thread(_make_desk, request, caller.tenant, window)

    @router.get("/v1/admin/desk/{request_id}")
    async def send_detail(request: Request, request_id: str) -> dict[str, Any]:
        caller = await enter_desk(request, OPERATION, request_id)
        return await asyncio.to_thread(read_detail, _get_database(request), caller.tenant, request_id)


def _make_desk(request: Request, tenant: str, window: str) -> dict[str, Any]:
    service, end = get_service(request), now()
    rows = read_answers(_get_database(request), tenant, end - WINDOWS[window])
    feedback = cast("FeedbackParts | None", service.extras.get("feedback"))
    given = feedback.store.list_feedback(tenant, ("new",), MAX_FEEDBACK) if feedback is not None else []
    find_problems = cast("Callable[[], dict[str, str]]", service.extras.get("readiness", dict))
    list_notices = cast("Callable[[], dict[str, str]]", service.extras.get("notices", dict))
    notices = {part: notice for part, notice in list_notices().items() if part == "champion"}
    policies = cast("PolicyStore | None", service.extras.get("policies"))
    if policies is not None and (refused := policies.list_problems(tenant)):
        notices["policies"] = "; ".join(refused)
    problems = {**find_problems(), **notices}
    about = service.inference.description
    return make_operation_desk(rows, given, window, end, about.version or about.phase, problems)


def _get_database(request: Request) -> Database:
    database = get_service(request).extras.get("database")
    if database is None:
        raise ServiceError(404, "this service keeps no journal; found none; start it with one.", code="no_journal")
    return cast("Database", database)
