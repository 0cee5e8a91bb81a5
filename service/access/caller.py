"""Who sends a request: the tenant, the person, the key and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "educator", "operator", "admin"]
LOCAL_TENANT = "local"  # of a service without keys, which listens on loopback only


@dataclass(frozen=True)
class Caller:
    """An authenticated caller. `user` is the person behind the key, by whom data is erased; `key_id` is public (empty: there
    are no keys); `scopes` are names of what the key may do, `*` for all."""

    tenant: str = LOCAL_TENANT
    user: str = "local"
    key_id: str = ""
    role: Role = "admin"
    scopes: frozenset[str] = frozenset({"*"})

    def has_scope(self, scope: str) -> bool:
        """Return whether the key may be used for this."""
        return "*" in self.scopes or scope in self.scopes
