"""POST /mcp: our tools over streamable HTTP, behind the same keys as everything else.

Requests are independent of each other (no sessions), so any instance answers any of them; answers are JSON. The library is imported
by the first request: half a second and 25 MB that a service without MCP clients does not need.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from service.access.caller import Caller
from service.answers.interfaces import Limiter
from service.api.route_parts import get_caller
from service.tooling.guarded_tools import GuardedTools

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

MAX_BODY_BYTES = 1_000_000
STOP_SECONDS = 5.0
_CALLER = "minigpt.caller"


class _McpEndpoint:
    """The ASGI endpoint: authenticates and admits, then lets the library answer."""

    def __init__(self, version: str, get_tools: Callable[[Caller], GuardedTools], limiter: Limiter | None) -> None:
        self._version, self._get_tools, self._limiter = version, get_tools, limiter
        self._started: asyncio.Future[StreamableHTTPSessionManager] | None = None
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = await get_caller(Request(scope, receive))
        admitted = self._limiter.admit(caller, 0) if self._limiter is not None else nullcontext()
        async with admitted:
            manager = await self._start()
            await manager.handle_request({**scope, _CALLER: caller}, receive, send)

    async def stop(self) -> None:
        """End the library's tasks; another request would start them anew."""
        self._stop.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_SECONDS)
        self._started, self._task, self._stop = None, None, asyncio.Event()

    async def _start(self) -> StreamableHTTPSessionManager:
        """Return the running manager, started by the first request."""
        if self._started is None:
            self._started = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._hold(self._started, self._stop))
        return await asyncio.shield(self._started)

    async def _hold(self, started: asyncio.Future[StreamableHTTPSessionManager], stop: asyncio.Event) -> None:
        try:
            manager = await asyncio.to_thread(self._make_manager)
            async with manager.run():
                started.set_result(manager)
                await stop.wait()
        except Exception as error:
            if not started.done():  # the next request tries again
                self._started = None
                started.set_exception(error)

    def _make_manager(self) -> StreamableHTTPSessionManager:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from service.tooling.protocol.mcp_server import make_mcp_server

        def get_tools(request: Any) -> GuardedTools:
            return self._get_tools(request.scope[_CALLER])

        server = make_mcp_server(self._version, get_tools)
        return StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=MAX_BODY_BYTES
        )


def make_router(version: str, get_tools: Callable[[Caller], GuardedTools], limiter: Limiter | None = None) -> APIRouter:
    """Return the route. `get_tools` returns the guarded tools of a caller, in a worker thread; `limiter` counts the requests."""
    endpoint = _McpEndpoint(version, get_tools, limiter)

    @asynccontextmanager
    async def run(_: FastAPI) -> AsyncGenerator[None]:
        yield
        await endpoint.stop()

    router = APIRouter(lifespan=run)
    router.routes.append(Route("/mcp", endpoint, methods=["POST"], include_in_schema=False))
    return router
