"""Keep the text of every policy that has counted, by its hash, so that a decision can be explained long after the files changed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from service.journal.journal_tables import POLICIES
from service.policy.policy_commands import describe_policy
from service.policy.tenant_policy import TenantPolicy


def keep_policies(connection: Connection, policies: Iterable[TenantPolicy], time: datetime) -> None:
    """Store policies that are not stored yet."""
    for policy in policies:
        where = (POLICIES.c.tenant == policy.tenant) & (POLICIES.c.hash == policy.hash)
        if connection.scalar(select(POLICIES.c.hash).where(where)) is None:
            texts = json.dumps(describe_policy(policy), ensure_ascii=False)
            values = {"tenant": policy.tenant, "hash": policy.hash, "time": time, "texts": texts}
            connection.execute(insert(POLICIES).values(values))


def find_policy(connection: Connection, policy_hash: str) -> dict[str, Any] | None:
    """Return the policy with this hash; None if it has never counted here."""
    texts = connection.scalar(select(POLICIES.c.texts).where(POLICIES.c.hash == policy_hash).limit(1))
    return json.loads(texts) if texts else None
