"""Every error of the service, in the shape that OpenAI's clients read.

    {"error": {"message": …, "type": …, "param": …, "code": …}}

Raise `ServiceError` anywhere; the application turns it into the response (service/app.py). A message has three parts: what is
wrong, what was found, what to do. It never repeats a secret, nor more than 80 characters of a caller's text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TYPES = {  # HTTP status: OpenAI's type
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "server_error",
    503: "server_error",
    504: "timeout_error",
}


@dataclass
class ServiceError(Exception):
    """An error with its HTTP status. `param` is the dotted name of the field that is wrong; `code` is for programs;
    `retry_after` in seconds becomes the header Retry-After."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        return self.message

    def to_json(self) -> dict[str, Any]:
        """Return the body of the response."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}
