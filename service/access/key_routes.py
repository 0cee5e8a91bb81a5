"""The routes of keys, /v1/admin/keys, and of tenants, /v1/admin/tenants.

An admin manages the keys of the own tenant; an admin of the tenant `local` those of all tenants, and the tenants. Nobody gives a
key more scopes than the own one has. Every change is in the audit log before it is answered. A secret is in one response, once,
which no cache may store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.access.authentication import Authenticator
from service.access.caller import LOCAL_TENANT, Caller, Role
from service.access.key_store import KeyGrant, StoredKey
from service.access.quota import MAX_AMOUNT, Quota
from service.access.tenant_files import TenantFiles, check_tenant
from service.access.tenant_store import StoredTenant, TenantStore
from service.answers.interfaces import Authorizer
from service.api.http.strict_route import StrictRoute
from service.api.response_store import ResponseStore
from service.api.route_parts import get_caller, get_service
from service.clock import now
from service.database.database import Database
from service.service_error import ServiceError

Amount = Annotated[int, Field(ge=0, le=MAX_AMOUNT)] | None
Made = TypeVar("Made")
YEARS_100 = 3_155_760_000
_SCOPE = "admin"


class QuotaBody(BaseModel):
    """The limits of a key; null: none."""

    model_config = ConfigDict(extra="forbid")

    requests_per_minute: Amount = None
    tokens_per_minute: Amount = None
    tokens_per_day: Amount = None
    concurrent: Amount = None


class KeyBody(BaseModel):
    """A key to make. Without scopes it gets those of its role."""

    model_config = ConfigDict(extra="forbid")

    tenant: Annotated[str, Field(max_length=63)] | None = None
    user: Annotated[str, Field(min_length=1, max_length=255)]
    role: Role = "user"
    scopes: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=32)] = []
    expires_in_seconds: Annotated[float, Field(gt=0, le=YEARS_100)] | None = None
    limits: QuotaBody = QuotaBody()


class RotateBody(BaseModel):
    """For how long the old key is still valid."""

    model_config = ConfigDict(extra="forbid")

    grace_seconds: Annotated[float, Field(ge=0, le=YEARS_100)] = 0


class TenantBody(BaseModel):
    """A tenant to make."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=63)]


def make_router() -> APIRouter:
    """Return the routes of keys and tenants."""
    router = APIRouter(route_class=StrictRoute)

    @router.get("/v1/admin/keys")
    async def list_keys(request: Request, tenant: str | None = None) -> dict[str, Any]:
        _, whose = await _open(request, "manage_keys", tenant)
        keys = await _run(lambda: _get_access(request).keys.list_keys(whose))
        return {"object": "list", "data": [describe_key(key) for key in keys]}

    @router.post("/v1/admin/keys", status_code=201)
    async def add_key(request: Request, response: Response, body: KeyBody) -> dict[str, Any]:
        caller, whose = await _open(request, "manage_keys", body.tenant)
        grant = _make_grant(caller, whose, body)
        key, secret = await _run(lambda: _get_access(request).keys.add(grant))
        await _record(request, caller, "key.added", key)
        return _show_secret(response, key, secret)

    @router.post("/v1/admin/keys/{key_id}/rotate", status_code=201)
    async def rotate_key(
        request: Request, response: Response, key_id: str, body: RotateBody, tenant: str | None = None
    ) -> dict[str, Any]:
        caller, whose = await _open(request, "manage_keys", tenant)
        keys, grace = _get_access(request).keys, timedelta(seconds=body.grace_seconds)
        _check_scopes(caller, (await _run(lambda: keys.get(whose, key_id))).grant.scopes)
        key, secret = await _run(lambda: keys.rotate(whose, key_id, grace))
        await _record(request, caller, "key.rotated", key, {"replaces": key_id[:80]})
        return _show_secret(response, key, secret)

    @router.delete("/v1/admin/keys/{key_id}")
    async def revoke_key(request: Request, key_id: str, tenant: str | None = None) -> dict[str, Any]:
        caller, whose = await _open(request, "manage_keys", tenant)
        key = await _run(lambda: _get_access(request).keys.revoke(whose, key_id))
        await _record(request, caller, "key.revoked", key)
        return describe_key(key)

    _add_tenant_routes(router)
    return router


def _add_tenant_routes(router: APIRouter) -> None:
    @router.get("/v1/admin/tenants")
    async def list_tenants(request: Request) -> dict[str, Any]:
        await _open(request, "manage_tenants", LOCAL_TENANT)
        tenants = await _run(_get_tenants(request).list_tenants)
        return {"object": "list", "data": [_describe_tenant(tenant) for tenant in tenants]}

    @router.post("/v1/admin/tenants", status_code=201)
    async def add_tenant(request: Request, body: TenantBody) -> dict[str, Any]:
        caller, _ = await _open(request, "manage_tenants", LOCAL_TENANT)
        await _run(lambda: _get_tenants(request).add(body.name))
        await _record(request, caller, "tenant.added", body.name)
        return {"object": "tenant", "name": body.name}

    @router.delete("/v1/admin/tenants/{name}")
    async def remove_tenant(request: Request, name: str, confirm: str = "") -> dict[str, Any]:
        """Delete everything of a tenant: `?confirm=` repeats the name."""
        caller, _ = await _open(request, "manage_tenants", LOCAL_TENANT)
        if confirm != name or name == LOCAL_TENANT:
            raise ServiceError(
                400,
                f"confirm: must repeat the tenant's name, which is not {LOCAL_TENANT}; found {confirm[:80]!r}; add ?confirm=NAME.",
                code="not_confirmed",
                param="confirm",
            )
        removal = await _run(lambda: _get_tenants(request).remove(name))
        _forget_tenant(request, name)
        await _record(request, caller, "tenant.removed", name)
        return {"object": "tenant.removal", "name": name, "n_rows": removal.n_rows, "n_files": removal.n_files}


def _forget_tenant(request: Request, name: str) -> None:
    """Forget what this process has in memory of a tenant: conversations, responses, open documents, and where there is a model,
    beginnings of prompts."""
    service = get_service(request)
    service.assistants.forget_tenant(name)
    if (responses := cast("ResponseStore | None", service.extras.get("responses"))) is not None:
        responses.drop_person(name)
    forget: Callable[[str], None] | None = getattr(service.inference, "forget", None)
    if forget is not None:
        forget(name)


def describe_key(key: StoredKey) -> dict[str, Any]:
    """Return a key as the API shows it: everything but the secret."""
    grant = key.grant
    times = {"created": key.created, "expires": grant.expires, "revoked": key.revoked, "last_used": key.used}
    return {
        "object": "key",
        "id": key.id,
        "tenant": grant.tenant,
        "user": grant.user,
        "role": grant.role,
        "scopes": list(grant.scopes),
        "limits": grant.quota.to_json(),
        "state": key.get_state(now()),
        "replaced_by": key.replaced_by,
        **{name: time.isoformat() if time else None for name, time in times.items()},
    }


def _describe_tenant(tenant: StoredTenant) -> dict[str, Any]:
    created = tenant.created.isoformat()
    state = "being removed" if tenant.is_being_removed else "active"
    return {"object": "tenant", "name": tenant.name, "created": created, "n_keys": tenant.n_keys, "state": state}


def _show_secret(response: Response, key: StoredKey, secret: str) -> dict[str, Any]:
    response.headers["Cache-Control"] = "no-store"
    return describe_key(key) | {"secret": secret}


def _make_grant(caller: Caller, tenant: str, body: KeyBody) -> KeyGrant:
    expires = now() + timedelta(seconds=body.expires_in_seconds) if body.expires_in_seconds is not None else None
    quota = Quota(**body.limits.model_dump())
    grant = _check(lambda: KeyGrant(tenant, body.user, body.role, tuple(body.scopes), expires, quota).check(now()))
    _check_scopes(caller, grant.scopes)
    return grant


def _check_scopes(caller: Caller, scopes: tuple[str, ...]) -> None:
    """Refuse to make a key that may do what the caller's own key may not."""
    if missing := [scope for scope in scopes if not caller.has_scope(scope)]:
        raise ServiceError(
            403,
            f"scopes: can't give more than your own key has; found {', '.join(missing)[:80]!r}; use a key that has them.",
            code="missing_scope",
            param="scopes",
        )


async def _open(request: Request, action: str, tenant: str | None) -> tuple[Caller, str]:
    """Return the caller and the tenant to manage. Raises: ServiceError 403 for those who may not."""
    caller = await get_caller(request, _SCOPE)
    whose = caller.tenant if tenant is None else _check(lambda: check_tenant(tenant))
    authorizer = cast("Authorizer | None", get_service(request).extras.get("authorizer"))
    is_permitted = caller.role == "admin" and caller.tenant in (whose, LOCAL_TENANT)
    if is_permitted and authorizer is not None:
        is_permitted = authorizer.authorize(caller, action, whose, {"tenant": whose}).is_allowed
    if not is_permitted:
        raise ServiceError(
            403,
            f"not permitted: {action}; found the role {caller.role} of {caller.tenant}; ask an admin.",
            code="forbidden",
        )
    return caller, whose


async def _record(
    request: Request, caller: Caller, what: str, subject: StoredKey | str, details: dict[str, Any] | None = None
) -> None:
    """Put a change into the audit log of whom it concerns; of the whole service where the tenant is gone."""
    journal = get_service(request).extras.get("journal")
    journal = getattr(journal, "journal", journal)
    if journal is None:
        return
    if isinstance(subject, str):
        future = journal.record(caller, what, subject, details=details, tenant=LOCAL_TENANT)
    else:
        grant = subject.grant
        about = {"role": grant.role, "scopes": list(grant.scopes), "by": caller.tenant} | (details or {})
        future = journal.record(caller, what, subject.id, about=grant.user, details=about, tenant=grant.tenant)
    await asyncio.wrap_future(future)


async def _run(act: Callable[[], Made]) -> Made:
    """Do something with the database in a thread."""
    return await asyncio.to_thread(lambda: _check(act))


def _check(act: Callable[[], Made]) -> Made:
    try:
        return act()
    except ValueError as error:
        text = str(error)
        status, code = (404, "not_found") if ": there is no " in text else (400, "invalid_value")
        raise ServiceError(status, text, code=code, param=text.partition(":")[0][:40]) from error


def _get_access(request: Request) -> Authenticator:
    access = get_service(request).extras.get("access")
    if access is None:
        raise ServiceError(404, "this service has no keys; found no database; start it with one.", code="no_keys")
    return cast("Authenticator", access)


def _get_tenants(request: Request) -> TenantStore:
    extras = get_service(request).extras
    return TenantStore(cast("Database", extras["database"]), cast("TenantFiles", extras["files"]))
