"""Metrics name all tenants, so only the tenant that runs the service reads them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from service.access.caller import Caller
from service.api.http.error_responses import install_errors
from service.observability.metrics_routes import make_router
from service.policy.cedar_authorizer import CedarAuthorizer
from service.policy.policy_store import PolicyStore


@pytest.mark.parametrize(
    ("tenant", "role", "status"),
    [
        ("local", "admin", 200),
        ("local", "operator", 200),
        ("local", "educator", 403),
        ("acme", "operator", 403),
        ("acme", "admin", 403),
    ],
)
def test_who_may_read_metrics(tenant: str, role: str, status: int) -> None:
    async def authenticate(_: Request) -> Caller:
        return Caller(tenant, "ada", "key_1", role, frozenset({"operate"}))  # type: ignore[arg-type]

    app = FastAPI()
    extras = {"authenticate": authenticate, "authorizer": CedarAuthorizer(PolicyStore()), "metrics": lambda: b"x 1\n"}
    app.state.service = SimpleNamespace(extras=extras)
    app.include_router(make_router())
    install_errors(app)
    response = TestClient(app).get("/metrics")
    assert response.status_code == status
    assert (response.text == "x 1\n") == (status == 200)
