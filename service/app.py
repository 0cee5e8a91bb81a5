"""The application: the routers of all rooms, the limits of a request, and every error in OpenAI's shape.

In: the parts of a service. Out: an ASGI application. `/ready` turns 503 when the service drains; running answers end whole.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service.api.http.error_responses import install_errors
from service.api.http.openapi import install_openapi
from service.api.http.request_limits import RequestLimits
from service.api.text_routes import list_models
from service.service_parts import Service


def make_app(service: Service) -> FastAPI:
    """Return the application of a service."""

    @asynccontextmanager
    async def close_connections(_: FastAPI) -> AsyncGenerator[None]:
        yield
        for close in service.closers:
            await close()

    version = service.inference.description.version or "0"
    app = FastAPI(title="MiniGPT", version=version, docs_url=None, redoc_url=None, lifespan=close_connections)
    app.state.service = service
    for router in service.routers:
        app.include_router(router)
    app.add_middleware(
        RequestLimits,
        max_body_bytes=service.settings.max_body_bytes,
        refuse_answer=service.answering.find_refusal,
    )
    install_errors(app)
    install_openapi(app, lambda: list_models(service))
    return app
