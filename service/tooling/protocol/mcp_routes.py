"""POST /mcp: our tools over streamable HTTP, behind the same keys as everything else.

Requests are independent of each other (no sessions), so any instance answers any of them; answers are JSON.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.access.caller import Caller
from service.answers.interfaces import Limiter
from service.api.route_parts import get_caller
from service.tooling.guarded_tools import GuardedTools
from service.tooling.protocol.mcp_server import make_mcp_server

MAX_BODY_BYTES = 1_000_000
_CALLER = "minigpt.caller"


@dataclass
class _McpEndpoint:
    """The ASGI endpoint: authenticates and admits, then lets the library answer."""

    manager: StreamableHTTPSessionManager
    limiter: Limiter | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        caller = await get_caller(request)
        admitted = self.limiter.admit(caller, 0) if self.limiter is not None else nullcontext()
        async with admitted:
            await self.manager.handle_request({**scope, _CALLER: caller}, receive, send)


def make_router(version: str, get_tools: Callable[[Caller], GuardedTools], limiter: Limiter | None = None) -> APIRouter:
    """Return the route. `get_tools` returns the guarded tools of a caller, in a worker thread; `limiter` counts the requests."""

    def get(request: Any) -> GuardedTools:
        return get_tools(request.scope[_CALLER])

    manager = StreamableHTTPSessionManager(
        make_mcp_server(version, get), json_response=True, stateless=True, max_request_body_size=MAX_BODY_BYTES
    )

    @asynccontextmanager
    async def run(_: FastAPI) -> AsyncGenerator[None]:
        async with manager.run():
            yield

    router = APIRouter(lifespan=run)
    router.routes.append(Route("/mcp", _McpEndpoint(manager, limiter), methods=["POST"], include_in_schema=False))
    return router
