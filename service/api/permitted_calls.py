"""Open a call that is no answer (embeddings, rerank, tokenize): who calls, whether the policy permits it, and its record.

Answers ask the policy themselves and have rows in the journal (service/answers/answering.py).
"""

from __future__ import annotations

from typing import Any, cast

from fastapi import Request

from service.access.caller import Caller
from service.answers.interfaces import Authorizer
from service.answers.permission import require_permission
from service.api.route_parts import get_caller, get_request_id, get_service


async def open_call(request: Request, scope: str, action: str, **details: Any) -> Caller:
    """Return the caller of a permitted call. The decision is in the audit log, with `details`, which hold no text.

    Raises: ServiceError 401, or 403 for a key without the scope or an action that no policy permits.
    """
    caller = await get_caller(request, scope)
    extras = get_service(request).extras
    authorizer = cast("Authorizer | None", extras.get("authorizer"))
    if authorizer is None:
        return caller
    decision = authorizer.authorize(caller, action, "", {"api": action})
    if (parts := extras.get("journal")) is not None:
        made = {"action": decision.action, "rules": list(decision.rules), "policy": decision.policy_hash, **details}
        parts.journal.record(caller, f"call.{action}", get_request_id(request), details=made)
    require_permission(decision, action)
    return caller
