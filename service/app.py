"""The application: the routers of all rooms, and every error in OpenAI's shape.

In: the parts of a service. Out: an ASGI application. `/ready` turns 503 when the service drains; running answers end whole.
"""

from __future__ import annotations

import logging
import secrets

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from service.errors import ServiceError
from service.service_parts import Service

_LOG = logging.getLogger(__name__)


def make_app(service: Service) -> FastAPI:
    """Return the application of a service."""
    app = FastAPI(title="MiniGPT", version=service.inference.description.version or "0", docs_url=None, redoc_url=None)
    app.state.service = service
    for router in service.routers:
        app.include_router(router)
    app.add_exception_handler(ServiceError, _answer_service_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(Exception, _answer_failure)
    return app


def make_error_response(error: ServiceError) -> JSONResponse:
    """Return the response of an error."""
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    return JSONResponse(error.to_json(), error.status, headers)


async def _answer_service_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    return make_error_response(error)


async def _answer_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    text = {404: "there is nothing at this address", 405: "this address does not take this method"}.get(
        error.status_code, str(error.detail)
    )
    found = f"{request.method} {request.url.path[:80]}"
    message = f"{text}; found {found}; docs/api.md lists the calls."
    return make_error_response(ServiceError(error.status_code, message, headers=dict(error.headers or {})))


async def _answer_validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"] if part != "body")
    found = repr(problem.get("input"))[:80]
    message = f"{name or 'the body'}: {problem['msg']}; found {found}; correct it."
    return make_error_response(ServiceError(400, message, code="invalid_value", param=name or None))


async def _answer_failure(request: Request, error: Exception) -> JSONResponse:
    """Answer what nobody foresaw: an id for the log, nothing of the error itself."""
    number = secrets.token_hex(4)
    _LOG.error("failure %s in %s %s", number, request.method, request.url.path[:80], exc_info=error)
    message = f"the service failed; found an unexpected error with the id {number} in its log; tell its operator."
    return make_error_response(ServiceError(500, message, code="internal_error"))
