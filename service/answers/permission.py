"""Turn what the policy forbids into the error that every room answers with."""

from __future__ import annotations

from service.answers.interfaces import Decision
from service.service_error import ServiceError


def require_permission(decision: Decision, action: str) -> None:
    """Do nothing if the decision permits the action. Raises: ServiceError 403 with the policy's reason."""
    if not decision.is_allowed:
        reason = decision.reason or "no policy permits it"
        raise ServiceError(403, f"not permitted: {action}; found that {reason}; ask your operator.", code="forbidden")
