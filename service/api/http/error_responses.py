"""Turn every error of an application into a response of OpenAI's shape.

    {"error": {"message": …, "type": …, "param": …, "code": …}}

Covers: ServiceError, pydantic's validation errors (with dotted names, `messages[2].content`), unknown paths and methods, and
anything unexpected, which is logged with its traceback and answered with an id and nothing else. Bytes that are no HTTP request at
all are answered by `http_protocol`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from service.service_error import ServiceError

NOT_YET = {  # content parts and tools that OpenAI documents and this model can't use
    "image_url": "images",
    "input_image": "images",
    "input_audio": "audio",
    "input_file": "files",
    "file": "files",
    "custom": "custom tools",
}
MAX_FOUND = 60  # characters of a caller's value that an error repeats
_log = logging.getLogger("minigpt.service")


def install_errors(app: FastAPI) -> None:
    """Register the handlers of all errors."""
    app.add_exception_handler(ServiceError, _answer_service_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(Exception, _answer_unexpected_error)


def make_error_response(error: ServiceError) -> Response:
    """Return the response of an error."""
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after + 0.5)))
    if error.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    content = json.dumps(error.to_json(), ensure_ascii=False).encode("utf-8", "replace")
    return Response(content, error.status, headers, "application/json")


def hide_unexpected_error(error: Exception, request_id: str) -> ServiceError:
    """Log an unexpected error with its traceback; return the one that a caller may read."""
    _log.error("request %s failed", request_id, exc_info=error)
    message = f"the request failed inside the service; found an unexpected error; report the request id {request_id}."
    return ServiceError(500, message, code="internal_error")


async def _answer_service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)
    return make_error_response(error)


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return make_error_response(explain_validation_error(error.errors(), error.body))


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:MAX_FOUND]
    if error.status_code == 404:
        made = ServiceError(
            404, f"path: there is no such path; found {path!r}; see /openapi.json for all.", code="unknown_path"
        )
    elif error.status_code == 405:
        allowed = _list_methods(request) or (error.headers or {}).get("Allow", "")
        made = ServiceError(
            405, f"method: not allowed here; found {request.method[:20]}; use {allowed}.", code="method_not_allowed"
        )
        made.headers = {"Allow": allowed}
    else:
        made = ServiceError(error.status_code, str(error.detail)[:200], headers=dict(error.headers or {}))
    return make_error_response(made)


def _list_methods(request: Request) -> str:
    """Return the methods of all routes of a path; the framework names those of the first."""
    service = getattr(request.app.state, "service", None)
    routes = [route for router in getattr(service, "routers", ()) for route in router.routes]
    methods = {
        method
        for route in routes
        if route.matches(request.scope)[0] != Match.NONE
        for method in getattr(route, "methods", None) or ()
    }
    return ", ".join(sorted(methods))


async def _answer_unexpected_error(request: Request, error: Exception) -> Response:
    return make_error_response(hide_unexpected_error(error, str(request.scope.get("request_id", "unknown"))))


def explain_validation_error(problems: Sequence[Mapping[str, Any]], body: Any) -> ServiceError:
    """Return the error of the problem that lies deepest: of a union, the member that fitted best."""
    problem = max(problems, key=lambda problem: (len(problem["loc"]), not str(problem["type"]).endswith("_type")))
    param = format_location(problem["loc"], body, is_missing=problem["type"] == "missing")
    where, found = param or "body", _quote(problem.get("input"))
    context = problem.get("ctx") or {}
    if problem["type"] == "missing":
        return _make_error(
            param, f"{where}: is missing; found an object without it; add it.", "missing_required_parameter"
        )
    if problem["type"] == "union_tag_invalid":
        tag = str(context.get("tag", ""))[:MAX_FOUND]
        key = str(context.get("discriminator", "")).strip("'")
        param = f"{param}.{key}" if key.isidentifier() else param
        where = param
        if tag in NOT_YET:
            message = f"{where}: {NOT_YET[tag]} are not supported yet; found {tag}; send text."
            return _make_error(param, message, "unsupported_value")
        expected = context.get("expected_tags", "")
        return _make_error(param, f"{where}: unknown kind; found {tag!r}; use one of {expected}.", "invalid_value")
    if problem["type"] == "json_invalid":
        return _make_error(None, "body: not JSON; found something else; send a JSON object.", "invalid_json")
    message = str(problem["msg"]).removeprefix("Value error, ").rstrip(".")
    message = message[:1].lower() + message[1:300]
    return _make_error(param, f"{where}: {message}; found {found}; correct it.", "invalid_value")


def format_location(location: Sequence[str | int], body: Any, *, is_missing: bool = False) -> str:
    """Return the dotted name of a field: ("body", "messages", 2, "user", "content") → messages[2].content.

    Names of a union's members, which pydantic puts between, are those that lead nowhere in the body.
    """
    name, value = "", body
    parts = location[1:] if location and location[0] in ("body", "query", "path") else location
    for index, part in enumerate(parts):
        if isinstance(part, int):
            if isinstance(value, list) and part < len(cast("list[Any]", value)):
                value, name = cast("list[Any]", value)[part], f"{name}[{part}]"
        elif isinstance(value, dict) and (part in value or (is_missing and index == len(parts) - 1)):
            value = cast("dict[str, Any]", value).get(part)
            name += f".{part[:MAX_FOUND]}" if name else part[:MAX_FOUND]
    return name


def _quote(value: Any) -> str:
    """Return a short description of what was found: scalars as they are, objects by their type."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = json.dumps(value, ensure_ascii=False, default=lambda other: type(other).__name__)
    return text if len(text) <= MAX_FOUND else f"{text[:MAX_FOUND]}…"


def _make_error(param: str | None, message: str, code: str) -> ServiceError:
    return ServiceError(400, message, code=code, param=param or None)
