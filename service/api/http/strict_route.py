"""A route whose body is read strictly: the right content type, then `strict_json`, before FastAPI's one validation of it.

Use it for every router of the service: `APIRouter(route_class=StrictRoute)`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.api.http.strict_json import parse_json
from service.service_error import ServiceError

Handle = Callable[[Request], Coroutine[Any, Any, Response]]


class StrictRoute(APIRoute):
    """Reads the body of a request itself; routes without a body are FastAPI's."""

    async def admit(self, request: Request) -> None:
        """Do what comes before the body is read; rooms whose callers are known by then override it. Raises: ServiceError."""

    def get_route_handler(self) -> Handle:
        """Return the handler: it reads the body, then does what FastAPI does."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_and_handle(request: Request) -> Response:
            await self.admit(request)
            check_content_type(request)
            value = parse_json(await request.body())
            request._json = value  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage] # where Request.json() keeps what it has parsed
            return await handle(request)

        return read_and_handle


def check_content_type(request: Request) -> None:
    """Raise ServiceError 415 for a body that is not JSON, or is compressed."""
    given = request.headers.get("content-type", "")
    kind, _, parameters = given.partition(";")
    charset = parameters.strip().lower().replace('"', "").removeprefix("charset=")
    is_json = kind.strip().lower() == "application/json" or kind.strip().lower().endswith("+json")
    if not is_json or charset not in ("", "utf-8", "utf8"):
        raise ServiceError(
            415,
            f"content-type: the body must be JSON in UTF-8; found {given[:60]!r}; send application/json.",
            code="unsupported_media_type",
        )
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise ServiceError(
            415,
            f"content-encoding: compressed bodies are not accepted; found {encoding[:40]!r}; send the JSON as it is.",
            code="unsupported_media_type",
        )
