"""Record decisions about other persons' data and about administration, wherever a route asks for them.

In: an authorizer and the journal. Out: an authorizer with the same decisions. Answers, tools, calls and the operator's view of the
journal have records of their own; permissions to look at metrics, asked for every few seconds, have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from service.access.caller import Caller
from service.answers.interfaces import Authorizer, Decision
from service.journal.answer_journal import AnswerJournal

RECORDED = ("read_learners", "review_feedback", "manage_keys", "manage_tenants", "erase_person", "administer")


class RecordedAuthorizer:
    """The seam `Authorizer`, with a record of each decision about one of the actions RECORDED."""

    def __init__(self, authorizer: Authorizer, journal: AnswerJournal) -> None:
        self._authorizer, self._journal = authorizer, journal

    def authorize(
        self, caller: Caller, action: str, resource: str, context: Mapping[str, Any] | None = None
    ) -> Decision:
        """Decide, and record it: in the log of the tenant whose data it is about, or of the caller's where it is refused."""
        decision = self._authorizer.authorize(caller, action, resource, context)
        if action in RECORDED:
            record_look(
                self._journal, caller, f"admin.{action}", decision, str((context or {}).get("tenant") or caller.tenant)
            )
        return decision


def record_look(
    journal: AnswerJournal, caller: Caller, what: str, decision: Decision, tenant: str, subject: str = ""
) -> Future[None]:
    """Record that somebody looks at a tenant's data, or tries to. A refused caller must not write to the log of the tenant that it
    names, which need not exist."""
    made: dict[str, Any] = {"action": decision.action, "rules": list(decision.rules), "policy": decision.policy_hash}
    made |= {"by": caller.tenant} | ({"is_elsewhere": True} if tenant != caller.tenant else {})
    whose = tenant if decision.is_allowed else caller.tenant
    return journal.record(caller, what, subject if decision.is_allowed else "", details=made, tenant=whose)
