"""Make the errors of fields that have a valid type and can't be honored."""

from __future__ import annotations

from typing import Any

from service.service_error import ServiceError


def refuse(param: str, what: str, found: Any, instead: str, name: str | None = None) -> ServiceError:
    """Return the error of a field: what is wrong, what was found (60 characters), what to do."""
    message = f"{param}: {what}; found {str(found)[:60]!r}; {instead}."
    return ServiceError(400, message, code="invalid_value", param=name or param)
