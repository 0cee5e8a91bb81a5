"""What every route of the API needs of a request: the service, its caller, its id, and the headers of an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import cast

from fastapi import Request
from pydantic import BaseModel

from service.access.caller import Caller
from service.api.http.strict_route import StrictRoute
from service.api.wire.wire_model import format_ignored, list_ignored
from service.service_error import ServiceError
from service.service_parts import Service

CALLER = "minigpt.caller"  # where a request keeps its caller
Authenticate = Callable[[Request], Awaitable[Caller]]


def get_service(request: Request) -> Service:
    """Return the service that the application was made for."""
    return cast("Service", request.app.state.service)


class KeyedRoute(StrictRoute):
    """Asks who sends a request before it looks at the body: without a valid key nothing is parsed."""

    async def admit(self, request: Request) -> None:
        """Authenticate. Raises: ServiceError 401."""
        request.scope[CALLER] = await _authenticate(request)


async def get_caller(request: Request, scope: str = "") -> Caller:
    """Return who sends the request; no scope: any key will do. Raises: ServiceError 401, or 403 for a key without the scope."""
    known = cast("Caller | None", request.scope.get(CALLER))
    caller = known if known is not None else await _authenticate(request)
    if scope and not caller.has_scope(scope):
        message = f"authorization: the key may not be used for this; found no scope {scope!r}; use another key."
        raise ServiceError(403, message, code="missing_scope")
    return caller


async def _authenticate(request: Request) -> Caller:
    authenticate = cast("Authenticate | None", get_service(request).extras.get("authenticate"))
    return await authenticate(request) if authenticate is not None else Caller()


def get_request_id(request: Request) -> str:
    """Return the id that `RequestLimits` gave the request."""
    return str(request.scope["request_id"])


def make_headers(body: BaseModel, mode: str = "", known: Collection[str] = ()) -> dict[str, str]:
    """Return the headers of an answer: its mode, and which fields nobody knew. `known` fields have neutral values."""
    headers = {"X-MiniGPT-Mode": mode} if mode else {}
    if ignored := list_ignored(body, known):
        headers["X-MiniGPT-Ignored"] = format_ignored(ignored)
    return headers
