"""Keys and tenants over HTTP: an admin manages the own tenant, an admin of the whole service all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from service.access import key_routes
from service.access.authentication import Authenticator
from service.access.key_store import KeyGrant, KeyStore
from service.access.tenant_files import TenantFiles
from service.api.http.error_responses import install_errors
from service.database.database import Database
from service.policy.cedar_authorizer import CedarAuthorizer
from service.policy.policy_store import PolicyStore

Call = Callable[..., Any]


class Client:
    """Calls the routes with a key, and knows what was dropped."""

    def __init__(self, client: TestClient, keys: KeyStore, dropped: list[str]) -> None:
        self.client, self.keys, self.dropped = client, keys, dropped

    def make(self, tenant: str = "local", role: Any = "admin", scopes: tuple[str, ...] = ()) -> Call:
        _, secret = self.keys.add(KeyGrant(tenant, "ann", role, scopes))

        def call(method: str, path: str, **body: Any) -> Any:
            answer = self.client.request(
                method,
                f"/v1/admin/{path}",
                json=body if method == "POST" else None,
                headers={"Authorization": f"Bearer {secret}"},
            )
            return answer.status_code, answer.json(), answer.headers

        return call


@pytest.fixture
def routes(tmp_path: Path) -> Iterator[Client]:
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    access = Authenticator(database)
    app = FastAPI()
    app.include_router(key_routes.make_router())
    install_errors(app)
    dropped: list[str] = []
    app.state.service = SimpleNamespace(
        extras={
            "authenticate": access.authenticate_request,
            "access": access,
            "authorizer": CedarAuthorizer(PolicyStore(None)),
            "database": database,
            "files": TenantFiles(tmp_path),
            "responses": SimpleNamespace(drop_person=dropped.append),
        },
        assistants=SimpleNamespace(forget_tenant=dropped.append),
        inference=SimpleNamespace(forget=dropped.append),
    )
    with TestClient(app) as client:
        yield Client(client, access.keys, dropped)
    access.close()
    database.close()


def test_a_key_is_made_shown_once_used_rotated_and_revoked(routes: Client) -> None:
    admin = routes.make("acme")
    status, made, headers = admin(
        "POST", "keys", user="bob", role="educator", limits={"concurrent": 3}, expires_in_seconds=3600
    )
    assert (status, headers["cache-control"]) == (201, "no-store")
    assert (made["tenant"], made["role"], made["limits"], made["state"]) == (
        "acme",
        "educator",
        {"concurrent": 3},
        "active",
    )
    assert routes.keys.find(made["secret"]) is not None
    _, listed, _ = admin("GET", "keys")
    assert {key["id"] for key in listed["data"]} >= {made["id"]}
    assert made["secret"] not in str(listed)
    status, new, _ = admin("POST", f"keys/{made['id']}/rotate", grace_seconds=0)
    assert status == 201
    assert routes.keys.find(made["secret"]) is None
    status, revoked, _ = admin("DELETE", f"keys/{new['id']}")
    assert (status, revoked["state"]) == (200, "revoked")
    assert routes.keys.find(new["secret"]) is None


def test_an_admin_of_a_tenant_reaches_no_other(routes: Client) -> None:
    other, _ = routes.keys.add(KeyGrant("zeta", "bob"))
    admin = routes.make("acme")
    assert admin("GET", "keys?tenant=zeta")[0] == 403
    assert admin("POST", "keys", user="bob", tenant="zeta")[0] == 403
    assert admin("POST", "keys", user="bob", tenant="local")[0] == 403
    assert admin("DELETE", f"keys/{other.id}?tenant=zeta")[0] == 403
    assert admin("DELETE", f"keys/{other.id}")[0] == 404
    for method, path in (("GET", "tenants"), ("DELETE", "tenants/zeta?confirm=zeta")):
        assert admin(method, path)[0] == 403
    assert routes.keys.get("zeta", other.id).revoked is None


def test_an_admin_of_the_whole_service_reaches_all(routes: Client) -> None:
    root = routes.make()
    assert root("POST", "tenants", name="acme")[0] == 201
    assert root("POST", "tenants", name="acme")[0] == 400
    status, made, _ = root("POST", "keys", user="bob", tenant="acme")
    assert (status, made["tenant"]) == (201, "acme")
    assert {tenant["name"] for tenant in root("GET", "tenants")[1]["data"]} == {"acme", "local"}
    assert root("DELETE", "tenants/acme")[0] == 400  # not confirmed
    assert root("DELETE", "tenants/local?confirm=local")[0] == 400
    assert root("DELETE", "tenants/acme?confirm=acme")[0] == 200
    assert routes.dropped == ["acme", "acme", "acme"]  # conversations, responses, beginnings of prompts
    assert routes.keys.find(made["secret"]) is None
    assert root("DELETE", "tenants/acme?confirm=acme")[0] == 404


@pytest.mark.parametrize("role", ["user", "educator", "operator"])
def test_others_than_admins_manage_nothing(routes: Client, role: str) -> None:
    call = routes.make("acme", role, ("admin", "operate", "chat"))
    assert call("GET", "keys")[0] == 403
    assert call("POST", "keys", user="bob")[0] == 403
    assert routes.make("acme", "admin", ("chat",))("GET", "keys")[0] == 403


def test_nobody_gives_more_than_they_have(routes: Client) -> None:
    admin = routes.make("acme", "admin", ("admin", "chat"))
    assert admin("POST", "keys", user="bob", scopes=["chat"])[0] == 201
    for scopes in (["*"], ["operate"], ["chat", "educate"], []):
        status, error, _ = admin("POST", "keys", user="bob", scopes=scopes)
        assert (status, error["error"]["code"]) == (403, "missing_scope")
    strong, _ = routes.keys.add(KeyGrant("acme", "root", "admin", ("*",)))
    assert admin("POST", f"keys/{strong.id}/rotate", grace_seconds=60)[0] == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user": ""},
        {"user": "a\nb"},
        {"user": "bob", "role": "root"},
        {"user": "bob", "scopes": ["everything"]},
        {"user": "bob", "expires_in_seconds": -1},
        {"user": "bob", "limits": {"concurrent": -1}},
        {"user": "bob", "limits": {"speed": 1}},
        {"user": "bob", "tenant": "../etc"},
        {"user": "bob", "colour": "red"},
    ],
)
def test_wrong_bodies_are_a_400_in_openais_shape(routes: Client, body: dict[str, Any]) -> None:
    status, error, _ = routes.make()("POST", "keys", **body)
    assert (status, error["error"]["type"]) == (400, "invalid_request_error")
    assert "secret" not in error
