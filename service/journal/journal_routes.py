"""GET /v1/admin/journal, /v1/admin/journal/{id}, /v1/admin/audit/verify, /v1/admin/policies: the operator's view.

Bound to the caller's tenant; `?tenant=` asks for another one, which the policy permits to the admins of the whole service. Every
look is recorded in the audit log of the tenant that is looked at, a refused one in that of the caller's tenant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Query, Request
from sqlalchemy import select

from service.access.caller import Caller
from service.access.tenant_files import check_tenant
from service.answers.interfaces import Authorizer
from service.api.http.strict_route import StrictRoute
from service.api.route_parts import get_caller, get_service
from service.journal.answer_journal import AnswerJournal
from service.journal.answer_trail import ID, explain_answer, find_answer, read_row, summarize_answer, trace_answer
from service.journal.audit_log import AuditLog, verify_tenant
from service.journal.journal_tables import JOURNAL
from service.journal.persons import name_user
from service.journal.recorded_decisions import record_look
from service.policy.policy_commands import describe_policy
from service.policy.policy_store import PolicyStore
from service.service_error import ServiceError

Found = TypeVar("Found")
_SCOPE = "operate"


@dataclass(frozen=True)
class JournalParts:
    """What the routes use, in `service.extras["journal"]`."""

    journal: AnswerJournal
    log: AuditLog
    policies: PolicyStore
    authorizer: Authorizer


def make_router() -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=StrictRoute)

    @router.get("/v1/admin/journal")
    async def list_answers(
        request: Request,
        tenant: str | None = None,
        user: Annotated[str | None, Query(max_length=256)] = None,
        outcome: Annotated[str | None, Query(max_length=64)] = None,
        before: datetime | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> dict[str, Any]:
        parts = _get_parts(request)
        whose = await _open(request, parts, "read_journal", tenant)
        if before is not None and before.tzinfo is None:
            raise ServiceError(400, "before: must have a time zone; found none; add Z.", param="before")
        rows = await asyncio.to_thread(_select_rows, parts, whose, user, outcome, before, limit)
        return {"object": "list", "data": rows, "has_more": len(rows) == limit}

    @router.get("/v1/admin/journal/{answer_id}")
    async def show_answer(request: Request, answer_id: str, tenant: str | None = None) -> dict[str, Any]:
        parts = _get_parts(request)
        whose = await _open(request, parts, "read_journal", tenant, answer_id if ID.fullmatch(answer_id) else "")
        return await asyncio.to_thread(_show_row, parts, whose, answer_id)

    @router.get("/v1/admin/audit/verify")
    async def verify(request: Request, tenant: str | None = None) -> dict[str, Any]:
        parts = _get_parts(request)
        whose = await _open(request, parts, "read_audit", tenant)
        report = await asyncio.to_thread(verify_tenant, parts.log.database, parts.log.heads, whose)
        return {
            "object": "audit.report",
            "tenant": whose,
            "is_whole": not report.problems,
            "n_rows": report.n_rows,
            "head": str(report.head),
            "problems": list(report.problems),
        }

    @router.get("/v1/admin/policies")
    async def show_policies(request: Request, tenant: str | None = None) -> dict[str, Any]:
        parts = _get_parts(request)
        whose = await _open(request, parts, "read_policies", tenant)
        policy = parts.policies.get(whose)
        return {
            "object": "policy",
            **describe_policy(policy),
            "tenant": whose,
            "problems": parts.policies.list_problems(whose),
        }

    return router


def _get_parts(request: Request) -> JournalParts:
    parts = get_service(request).extras.get("journal")
    if parts is None:
        raise ServiceError(404, "this service has no journal; found none; start it with one.", code="no_journal")
    return cast("JournalParts", parts)


async def _open(request: Request, parts: JournalParts, action: str, tenant: str | None, subject: str = "") -> str:
    """Return the tenant that is looked at, after the policy has permitted it and the audit log has recorded it."""
    caller: Caller = await get_caller(request, _SCOPE)
    whose = _check(lambda: check_tenant(tenant), "tenant", 400) if tenant else caller.tenant
    decision = parts.authorizer.authorize(caller, action, whose, {"tenant": whose})
    await asyncio.wrap_future(record_look(parts.journal, caller, f"admin.{action}", decision, whose, subject))
    if not decision.is_allowed:
        message = f"not permitted: {action}; found that no policy permits it to the role {caller.role}; ask your admin."
        raise ServiceError(403, message, code="forbidden")
    return whose


def _select_rows(
    parts: JournalParts, tenant: str, user: str | None, outcome: str | None, before: datetime | None, limit: int
) -> list[dict[str, Any]]:
    query = select(JOURNAL).where(JOURNAL.c.tenant == tenant).order_by(JOURNAL.c.time.desc()).limit(limit)
    for column, value in ((JOURNAL.c.user, user), (JOURNAL.c.reason, outcome)):
        query = query if value is None else query.where(column == name_user(value))
    query = query if before is None else query.where(JOURNAL.c.time < before)
    with parts.log.database.connect(is_read_only=True) as connection:
        return [summarize_answer(read_row(row)) for row in connection.execute(query).mappings()]


def _show_row(parts: JournalParts, tenant: str, answer_id: str) -> dict[str, Any]:
    with parts.log.database.connect(is_read_only=True) as connection:
        row = _check(lambda: find_answer(connection, answer_id, tenant), "id", 404)
        return {"object": "journal.answer", **trace_answer(row), "decisions": explain_answer(connection, row)}


def _check(find: Callable[[], Found], param: str, status: int) -> Found:
    try:
        return find()
    except ValueError as error:
        raise ServiceError(
            status, str(error), code="not_found" if status == 404 else "invalid_value", param=param
        ) from error
