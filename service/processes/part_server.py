"""The application of one part: calls checked for the token, answers as lines with signs of life, drained at SIGTERM.

In: functions of a part (a call's bytes → items, or a value). Out: an ASGI application for service.processes.http_server. A caller
that leaves ends what is computed for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from service.access.local_access import check_local_request
from service.processes.part_protocol import (
    END,
    LIFE,
    LIFE_SECONDS,
    MAX_BODY_BYTES,
    encode,
    encode_error,
    encode_item,
    is_token,
)
from service.service_error import ServiceError

StreamItems = Callable[[bytes], AsyncGenerator[Any, None]]
AnswerOnce = Callable[[bytes], Awaitable[Any]]
_LOG = logging.getLogger(__name__)


@dataclass
class PartState:
    """What the process knows of its calls: how many are open, and whether it takes new ones."""

    n_open: int = 0
    is_draining: bool = False


@dataclass(frozen=True)
class PartRoutes:
    """The calls of a part by name. `describe` returns what `GET /part/about` shows."""

    name: str
    describe: Callable[[], Any]
    streams: Mapping[str, StreamItems] = field(default_factory=dict[str, StreamItems])
    calls: Mapping[str, AnswerOnce] = field(default_factory=dict[str, AnswerOnce])


def make_part_app(routes: PartRoutes, token: str, state: PartState) -> FastAPI:
    """Return the application of a part."""
    app = FastAPI(title=f"MiniGPT {routes.name}", openapi_url=None, docs_url=None, redoc_url=None)

    async def about(request: Request) -> Response:
        _check_token(request, token)
        return Response(encode(routes.describe()), media_type="application/json")

    async def ready() -> Response:
        return JSONResponse({"part": routes.name, "is_ready": not state.is_draining}, 503 if state.is_draining else 200)

    app.add_api_route("/part/about", about, methods=["GET"])
    app.add_api_route("/ready", ready, methods=["GET"])
    app.add_api_route("/health", _answer_health, methods=["GET"])
    for name, stream in routes.streams.items():
        app.add_api_route(f"/part/{name}", _make_stream_route(stream, token, state), methods=["POST"])
    for name, call in routes.calls.items():
        app.add_api_route(f"/part/{name}", _make_call_route(call, token, state), methods=["POST"])
    app.add_exception_handler(ServiceError, _answer_error)
    return app


async def _answer_health() -> Response:
    return JSONResponse({"status": "ok"})


def _make_stream_route(stream: StreamItems, token: str, state: PartState) -> Callable[[Request], Awaitable[Response]]:
    async def route(request: Request) -> Response:
        body = await _read(request, token, state)
        return StreamingResponse(_write_lines(stream(body), state), media_type="application/x-ndjson")

    return route


def _make_call_route(call: AnswerOnce, token: str, state: PartState) -> Callable[[Request], Awaitable[Response]]:
    async def route(request: Request) -> Response:
        body = await _read(request, token, state)
        state.n_open += 1
        try:
            return Response(encode(await call(body)), media_type="application/json")
        except Exception as error:
            raise _convert(error) from error
        finally:
            state.n_open -= 1

    return route


async def _read(request: Request, token: str, state: PartState) -> bytes:
    """Return the body of a call that may be made now. Raises: ServiceError."""
    _check_token(request, token)
    if state.is_draining:
        raise ServiceError(503, "this part is shutting down; found a new call; send it to another one.", retry_after=1)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise ServiceError(413, f"a call may have {MAX_BODY_BYTES:,} bytes; found more; send less.")
    except ClientDisconnect:
        raise ServiceError(400, "the call must be whole; found a closed connection; send it again.") from None
    return bytes(body)


def _check_token(request: Request, token: str) -> None:
    """Refuse who does not know the token; without one, web pages (by Origin or a name of their own) and other machines."""
    if not token:
        try:
            check_local_request(request.headers, request.client.host if request.client else "")
        except ServiceError as error:
            raise ServiceError(
                error.status,
                "a part without a token answers programs of this machine alone; found a request from elsewhere, or by another "
                "name; set MINIGPT_INTERNAL_TOKEN alike everywhere.",
                code=error.code,
            ) from None
    if not is_token(request.headers.get("authorization", ""), token):
        raise ServiceError(
            401, "the internal token is wrong; found another one; set MINIGPT_INTERNAL_TOKEN alike everywhere."
        )


async def _write_lines(items: AsyncGenerator[Any, None], state: PartState) -> AsyncIterator[bytes]:
    """Yield the lines of an answer, with a sign of life where nothing else comes."""
    state.n_open += 1
    try:
        async with aclosing(items):
            waiting: asyncio.Future[Any] | None = None
            try:
                while True:
                    waiting = waiting or asyncio.ensure_future(anext(items))
                    if not (await asyncio.wait([waiting], timeout=LIFE_SECONDS))[0]:
                        yield LIFE
                        continue
                    item, waiting = waiting.result(), None
                    yield encode_item(item)
            except StopAsyncIteration:
                yield END
            except Exception as error:
                yield encode_error(_convert(error))
            finally:
                if waiting is not None and not waiting.done():
                    waiting.cancel()
                    await asyncio.wait([waiting])
    finally:
        state.n_open -= 1


def _convert(error: Exception) -> ServiceError:
    """Return an error as callers get it: errors of users as they are, of anything else nothing but that it is in the log."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, ValueError):
        return ServiceError(400, str(error))
    _LOG.error("a call failed", exc_info=error)
    return ServiceError(500, f"a part failed; found {type(error).__name__}; see its log.", "internal_error")


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    headers = {"Retry-After": "1"} if error.retry_after else {}
    return Response(encode_error(error), error.status, headers, media_type="application/json")
