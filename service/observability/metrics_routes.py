"""GET /metrics: what Prometheus scrapes, with a key like every other call (`authorization: {credentials: …}` in its settings)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from fastapi import APIRouter, Request, Response

from service.access.caller import LOCAL_TENANT
from service.answers.interfaces import Authorizer
from service.api.route_parts import get_caller, get_service
from service.observability.prometheus_recorder import CONTENT_TYPE
from service.service_error import ServiceError


def make_router() -> APIRouter:
    """Return the route."""
    router = APIRouter()

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def read_metrics(request: Request) -> Response:
        caller, extras = await get_caller(request, "operate"), get_service(request).extras
        authorizer = cast("Authorizer | None", extras.get("authorizer"))
        whose = {"tenant": LOCAL_TENANT}  # they are about all tenants, by name
        if authorizer is not None:
            decision = authorizer.authorize(caller, "read_metrics", LOCAL_TENANT, whose)
            if not decision.is_allowed:
                reason = decision.reason or "no policy permits it"
                message = f"not permitted: read_metrics; found that {reason}; use a key of the tenant {LOCAL_TENANT}."
                raise ServiceError(403, message, code="forbidden")
        render = cast("Callable[[], bytes]", extras["metrics"])
        return Response(render(), media_type=CONTENT_TYPE)

    return router
