"""Keys of callers: made, found by their hash, rotated, revoked.

In: a tenant, a person, a role. Out: a secret, `mg-` and 32 random bytes in base64url, which is shown once; its sha256 is stored. A
random secret of 256 bits needs no slow hash: nobody can try them all. Every request reads its key's row, so that a revoked key is
refused at once by every process, and nothing can be stale.
Covers: unknown, expired, revoked and other tenants' keys look the same from outside, in text and in time (one select each).
Does not cover: a stolen secret, until it is revoked or rotated.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, get_args

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from service.access.access_tables import ACCESS_FACTS, KEYS, TENANTS
from service.access.caller import LOCAL_TENANT, Caller, Role
from service.access.quota import Quota
from service.access.tenant_files import check_tenant
from service.clock import Clock, now
from service.database.database import Database, insert_missing

PREFIX = "mg-"
N_BYTES = 32
SECRET = re.compile(r"mg-[\w-]{43}", re.ASCII)
SCOPES = ("chat", "embed", "rerank", "collections", "memory", "feedback", "educate", "operate", "admin")
ROLES: tuple[Role, ...] = get_args(Role)
_OF_USERS = ("chat", "embed", "rerank", "collections", "memory", "feedback")
ROLE_SCOPES: dict[Role, tuple[str, ...]] = {  # what a key gets that names no scopes
    "user": _OF_USERS,
    "educator": (*_OF_USERS, "educate"),
    "operator": (*_OF_USERS, "operate"),
    "admin": SCOPES,
}
KEYS_REQUIRED = "keys_required"
MAX_KEYS = 100_000  # of one tenant
MAX_PARSED = 10_000  # rows that are compared instead of parsed
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")

_BY_HASH = (
    select(KEYS, TENANTS.c.removing)
    .join(TENANTS, TENANTS.c.tenant == KEYS.c.tenant)
    .where(KEYS.c.hash == bindparam("digest"))
)
_IS_REQUIRED = select(ACCESS_FACTS.c.name).where(ACCESS_FACTS.c.name == KEYS_REQUIRED)


@dataclass(frozen=True)
class KeyGrant:
    """What a key is for. `scopes` empty: those of the role."""

    tenant: str = LOCAL_TENANT
    user: str = "admin"
    role: Role = "user"
    scopes: tuple[str, ...] = ()
    expires: datetime | None = None
    quota: Quota = field(default_factory=Quota)

    def check(self, time: datetime) -> KeyGrant:
        """Return the grant with its scopes. Raises: ValueError for what is wrong, with its name."""
        check_tenant(self.tenant)
        if not 0 < len(self.user) <= 255 or _UNPRINTABLE.search(self.user) or self.user != self.user.strip():
            raise ValueError(
                f"user: must be 1 to 255 printable characters; found {len(self.user)} of them; use a name or an e-mail address."
            )
        if ":" in self.user:
            raise ValueError(
                f"user: must have no ':'; found {self.user[:80]!r}; OWNER:NAME is the person whom requests of OWNER name as `user`."
            )
        if self.role not in ROLES:
            raise ValueError(f"role: must be one of {', '.join(ROLES)}; found {str(self.role)[:80]!r}; correct it.")
        for scope in self.scopes:
            if scope not in (*SCOPES, "*"):
                raise ValueError(f"scopes: must be of {', '.join(SCOPES)} or *; found {str(scope)[:80]!r}; correct it.")
        if self.expires is not None and self.expires <= time:
            raise ValueError(f"expires: must be in the future; found {self.expires.isoformat()}; correct it.")
        scopes = tuple(sorted(set(self.scopes))) or ROLE_SCOPES[self.role]
        return KeyGrant(self.tenant, self.user, self.role, scopes, self.expires, self.quota)


@dataclass(frozen=True)
class StoredKey:
    """A key as it is stored: everything but the secret."""

    id: str
    grant: KeyGrant
    created: datetime
    revoked: datetime | None = None
    used: datetime | None = None
    replaced_by: str | None = None

    def get_state(self, time: datetime) -> str:
        """Return active, expired or revoked."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.grant.expires is not None and self.grant.expires <= time else "active"

    def to_caller(self) -> Caller:
        """Return who this key speaks for."""
        grant = self.grant
        return Caller(grant.tenant, grant.user, self.id, grant.role, frozenset(grant.scopes))


def hash_secret(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def make_secret() -> str:
    """Return a new secret."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(N_BYTES)).rstrip(b"=").decode()


class KeyStore:
    """The keys of a service. Thread-safe."""

    def __init__(self, database: Database, clock: Clock = now) -> None:
        self._database, self._clock = database, clock
        self._parsed: OrderedDict[str, tuple[Sequence[Any], StoredKey]] = OrderedDict()

    def is_open(self) -> bool:
        """Return whether no key was ever made: the service then answers on loopback without one."""
        return not self._database.read(_IS_REQUIRED)

    def add(self, grant: KeyGrant) -> tuple[StoredKey, str]:
        """Make a key; return it and its secret, which is stored nowhere. The tenant is made if there is none.

        Raises: ValueError for a wrong grant, a tenant that is being removed, or too many keys.
        """
        time = self._clock()
        grant = grant.check(time)
        with self._database.connect() as connection:
            _require_tenant(connection, grant.tenant, time)
            return _insert(connection, grant, time)

    def list_keys(self, tenant: str | None = None) -> list[StoredKey]:
        """Return all keys, or those of one tenant, oldest first."""
        query = select(KEYS).order_by(KEYS.c.tenant, KEYS.c.created, KEYS.c.id)
        with self._database.connect(is_read_only=True) as connection:
            rows = connection.execute(query if tenant is None else query.where(KEYS.c.tenant == tenant)).all()
        return [_read(row) for row in rows]

    def get(self, tenant: str, key_id: str) -> StoredKey:
        """Return a key. Raises: ValueError if there is none."""
        with self._database.connect(is_read_only=True) as connection:
            return _get(connection, tenant, key_id)

    def revoke(self, tenant: str, key_id: str) -> StoredKey:
        """Revoke a key; the next request with it is refused, in every process. Raises: ValueError if there is none."""
        time = self._clock()
        with self._database.connect() as connection:
            key = _get(connection, tenant, key_id)
            if key.revoked is None:
                connection.execute(update(KEYS).where(_is(tenant, key_id)).values(revoked=time))
            return _get(connection, tenant, key_id)

    def rotate(self, tenant: str, key_id: str, grace: timedelta = timedelta()) -> tuple[StoredKey, str]:
        """Make a key that may do the same; the old one is refused after `grace`. Raises: ValueError unless that one is active."""
        time = self._clock()
        with self._database.connect() as connection:
            old = _get(connection, tenant, key_id)
            if (state := old.get_state(time)) != "active" or old.replaced_by is not None:
                found = state if old.replaced_by is None else f"already rotated to {old.replaced_by}"
                raise ValueError(f"key {key_id}: only an active key can be rotated; found it {found}; add another key.")
            new, secret = _insert(connection, old.grant, time)
            end = min(time + grace, old.grant.expires) if old.grant.expires is not None else time + grace
            change = {"revoked": time} if grace <= timedelta() else {"expires": end}
            connection.execute(update(KEYS).where(_is(tenant, key_id)).values(replaced_by=new.id, **change))
        return new, secret

    def find(self, secret: str) -> StoredKey | None:
        """Return the active key of a secret, or None: unknown, expired, revoked, or of a tenant that is being removed."""
        digest = hash_secret(secret)
        rows = self._database.read_stored(_BY_HASH, {"digest": digest})
        key = self._parse(digest, rows[0]) if rows else None
        return key if key is not None and key.get_state(self._clock()) == "active" else None

    def _parse(self, digest: str, stored: Sequence[Any]) -> StoredKey | None:
        """Return the key of a row: the one of the last call if the row is still the same."""
        known = self._parsed.get(digest)
        if known is not None and known[0] == stored:
            return known[1]
        rows = self._database.read(_BY_HASH, {"digest": digest})
        if not rows or not hmac.compare_digest(rows[0].hash, digest) or rows[0].removing is not None:
            self._parsed.pop(digest, None)
            return None
        key = _read(rows[0])
        self._parsed[digest] = stored, key
        if len(self._parsed) > MAX_PARSED:
            self._parsed.popitem(last=False)
        return key

    def record_use(self, key: StoredKey) -> None:
        """Store that a key is used now."""
        with self._database.connect() as connection:
            connection.execute(update(KEYS).where(_is(key.grant.tenant, key.id)).values(used=self._clock()))


def _is(tenant: str, key_id: str) -> Any:
    return (KEYS.c.tenant == tenant) & (KEYS.c.id == key_id)


def _require_tenant(connection: Connection, tenant: str, time: datetime) -> None:
    insert_missing(connection, TENANTS, {"tenant": tenant, "created": time})
    row = connection.execute(select(TENANTS).where(TENANTS.c.tenant == tenant).with_for_update()).one()
    if row.removing is not None:
        raise ValueError(
            f"tenant {tenant}: is being removed; found keys for it; run `tenants remove {tenant}` again first."
        )
    n_keys = connection.scalar(select(func.count()).select_from(KEYS).where(KEYS.c.tenant == tenant)) or 0
    if n_keys >= MAX_KEYS:
        raise ValueError(f"tenant {tenant}: has too many keys; found {n_keys}; remove the tenant or use another one.")


def _insert(connection: Connection, grant: KeyGrant, time: datetime) -> tuple[StoredKey, str]:
    secret, key_id = make_secret(), f"key_{secrets.token_hex(8)}"
    connection.execute(
        insert(KEYS).values(
            tenant=grant.tenant,
            id=key_id,
            hash=hash_secret(secret),
            user=grant.user,
            role=grant.role,
            scopes=list(grant.scopes),
            quota=grant.quota.to_json(),
            created=time,
            expires=grant.expires,
        )
    )
    insert_missing(connection, ACCESS_FACTS, {"name": KEYS_REQUIRED, "time": time})
    return StoredKey(key_id, grant, time), secret


def _get(connection: Connection, tenant: str, key_id: str) -> StoredKey:
    row = connection.execute(select(KEYS).where(_is(tenant, key_id))).one_or_none()
    if row is None:
        raise ValueError(
            f"key: there is no such key; found {key_id[:80]!r} of the tenant {tenant[:80]!r}; list them with `keys list`."
        )
    return _read(row)


def _read(row: Row[Any]) -> StoredKey:
    scopes: Sequence[str] = row.scopes
    grant = KeyGrant(row.tenant, row.user, row.role, tuple(scopes), row.expires, Quota.from_json(row.quota))
    return StoredKey(row.id, grant, row.created, row.revoked, row.used, row.replaced_by)
