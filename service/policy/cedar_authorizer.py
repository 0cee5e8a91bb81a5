"""Decide by Cedar who may do what: deny unless a policy permits, and deny if any policy can't be evaluated.

In: a caller, an action and a resource of schema.cedarschema, and facts (`context`). Out: a `Decision` that names the policies by
their @id. Whatever does not fit the schema (an unknown action, a fact of another type) is denied with the reason.
Time: 60 µs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import cedarpy

from service.access.caller import Caller
from service.answers.interfaces import Decision
from service.policy.policy_store import PolicyStore
from service.policy.tenant_policy import TenantPolicy, parse_schema

_PROFILE, _TENANT, _PERSON = "Profile", "Tenant", "Person"
RESOURCES = {  # action: type of its resource
    **dict.fromkeys(("answer", "answer_direct", "embed", "rerank", "tokenize", "list_models"), _PROFILE),
    **dict.fromkeys(("read_memory", "write_memory", "give_feedback"), _PERSON),
    **dict.fromkeys(("read_collection", "write_collection"), "Collection"),
    **dict.fromkeys(("read_learners", "review_feedback"), _TENANT),
    **dict.fromkeys(("read_journal", "read_audit", "read_policies", "read_metrics"), _TENANT),
    **dict.fromkeys(("manage_keys", "manage_tenants", "erase_person", "administer"), _TENANT),
    "use_tool": "Tool",
    "use_adapter": "Adapter",
}
_PARENTS = {"user": (), "educator": ("user",), "operator": ("user",), "admin": ("educator", "operator")}


class CedarAuthorizer:
    """The seam `Authorizer` over a store of policies."""

    def __init__(self, store: PolicyStore) -> None:
        self._store = store

    def authorize(
        self, caller: Caller, action: str, resource: str, context: Mapping[str, Any] | None = None
    ) -> Decision:
        """Return whether the caller may do this. Facts that are None count as absent."""
        return authorize_by(self._store.get(caller.tenant), caller, action, resource, context or {})


def authorize_by(
    policy: TenantPolicy, caller: Caller, action: str, resource: str, context: Mapping[str, Any]
) -> Decision:
    """Decide by one tenant's policy."""
    facts = {name: value for name, value in context.items() if value is not None}
    if "ip" in facts:
        facts["ip"] = {"__extn": {"fn": "ip", "arg": str(facts["ip"])}}
    request = {
        "principal": {"type": "User", "id": f"{caller.tenant}/{caller.user}"},
        "action": {"type": "Action", "id": action},
        "resource": {"type": RESOURCES.get(action, _TENANT), "id": resource},
        "context": facts,
    }
    try:
        result = cedarpy.is_authorized(request, policy.policies, _make_entities(caller), parse_schema())
    except (ValueError, TypeError) as error:  # facts that are no JSON
        return Decision("block", ("cedar.error",), f"{action[:80]}: {str(error)[:120]}", policy_hash=policy.hash)
    return _make_decision(policy, action, result)


def _make_decision(policy: TenantPolicy, action: str, result: cedarpy.AuthzResult) -> Decision:
    names = result.diagnostics.id_annotations_by_reason
    rules = tuple(sorted(f"cedar.{names.get(reason, reason)}" for reason in result.diagnostics.reasons))
    if result.diagnostics.errors:  # Cedar would skip the policy, also a forbid; not here
        problem = str(result.diagnostics.errors[0])[:120]
        return Decision("block", ("cedar.error", *rules), f"{action[:80]}: {problem}", policy_hash=policy.hash)
    if result.allowed:
        return Decision("allow", rules, policy_hash=policy.hash)
    reason = "is forbidden by a policy" if rules else "is permitted by no policy"
    return Decision("block", rules or ("cedar.default-deny",), f"{action[:80]} {reason}", policy_hash=policy.hash)


@lru_cache(maxsize=4_096)
def _make_entities(caller: Caller) -> cedarpy.Entities:
    roles = [
        {
            "uid": {"type": "Role", "id": role},
            "attrs": {},
            "parents": [{"type": "Role", "id": each} for each in parents],
        }
        for role, parents in _PARENTS.items()
    ]
    user = {
        "uid": {"type": "User", "id": f"{caller.tenant}/{caller.user}"},
        "attrs": {
            "tenant": caller.tenant,
            "name": caller.user,
            "role": caller.role,
            "scopes": sorted(caller.scopes),
            "has_key": bool(caller.key_id),
        },
        "parents": [{"type": "Role", "id": caller.role}] if caller.role in _PARENTS else [],
    }
    return cedarpy.Entities.from_json_str(json.dumps([*roles, user]), parse_schema())
