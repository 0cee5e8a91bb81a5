"""Who may see what on the page: the caller of a request after the authorizer's decision.

Without an authorizer (a service without policies) everybody has their own memories; educators and admins see learners, operators
and admins see operation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

from fastapi import Request

from service.access.caller import Caller
from service.access.tenant_files import TenantFiles
from service.answers.interfaces import Authorizer
from service.api.route_parts import Authenticate, get_service
from service.journal.journal_routes import JournalParts
from service.service_error import ServiceError


class DeskRight(NamedTuple):
    """What a view needs: its name and title, its URL, the scope of the key, the action, and the roles that have it by default."""

    name: str
    title: str
    url: str
    scope: str
    action: str
    roles: tuple[str, ...]


LEARNERS = DeskRight("learners", "Learners", "/v1/educator/desk", "educate", "read_learners", ("educator", "admin"))
OPERATION = DeskRight("operation", "Operation", "/v1/admin/desk", "operate", "read_journal", ("operator", "admin"))


async def authenticate(request: Request) -> Caller:
    """Return who sends a request, whatever their key may be used for. Raises: ServiceError 401."""
    check = cast("Authenticate | None", get_service(request).extras.get("authenticate"))
    return await check(request) if check is not None else Caller()


def may_open(request: Request, caller: Caller, desk: DeskRight) -> bool:
    """Return whether the caller may see a view."""
    return caller.has_scope(desk.scope) and _decide(request, caller, desk.action, caller.tenant, {}, desk.roles) == ""


async def enter_desk(request: Request, desk: DeskRight, subject: str = "") -> Caller:
    """Return the caller, who may see the view. That they looked, and at what, is in the audit log.

    Raises: ServiceError 401, 403; 503 while nothing can be recorded.
    """
    caller = await authenticate(request)
    _require_scope(caller, desk.scope)
    reason = _decide(request, caller, desk.action, caller.tenant, {}, desk.roles)
    journal = cast("JournalParts | None", get_service(request).extras.get("journal"))
    if journal is not None:
        details = {"action": "block" if reason else "allow", "by": caller.tenant}
        future = journal.journal.record(caller, f"page.{desk.action}", subject[:64], details=details)
        await asyncio.wrap_future(future)
    _raise_unless(desk.action, reason)
    return caller


async def enter_memory(request: Request, action: str) -> Caller:
    """Return the caller, who may read or write their own memory. Raises: ServiceError 401, 403."""
    caller = await authenticate(request)
    _require_scope(caller, "memory")
    _raise_unless(action, _decide(request, caller, action, caller.user, {"owner": caller.user}, (caller.role,)))
    return caller


def get_files(request: Request) -> TenantFiles:
    """Return where the files of tenants are."""
    return TenantFiles(get_service(request).settings.state)


def list_names(request: Request, caller: Caller) -> dict[str, str]:
    """Return the users of the tenant by the names that their files have, which are digests."""
    list_users = cast("Callable[[str], Iterable[str]] | None", get_service(request).extras.get("list_users"))
    users = {caller.user, *(list_users(caller.tenant) if list_users is not None else ())}
    files = get_files(request)
    return {files.get_user_name(Caller(caller.tenant, user)): user for user in users}


def _decide(
    request: Request, caller: Caller, action: str, resource: str, context: dict[str, Any], roles: tuple[str, ...]
) -> str:
    """Return why it is not permitted; empty: it is."""
    authorizer = cast("Authorizer | None", get_service(request).extras.get("authorizer"))
    if authorizer is None:
        return "" if caller.role in roles else f"the role is {caller.role}"
    decision = authorizer.authorize(caller, action, resource, context)
    return "" if decision.is_allowed else decision.reason or "no policy permits it"


def _require_scope(caller: Caller, scope: str) -> None:
    if not caller.has_scope(scope):
        message = f"authorization: the key may not be used for this; found no scope {scope!r}; use another key."
        raise ServiceError(403, message, code="missing_scope")


def _raise_unless(action: str, reason: str) -> None:
    if reason:
        raise ServiceError(403, f"not permitted: {action}; found that {reason}; ask your operator.", code="forbidden")
