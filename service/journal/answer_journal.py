"""The recorder that writes the journal and the audit log: a draft for each answer in progress, an entry at its end.

    journal = AnswerJournal(writer, policies, describe=lambda: inference.description)
    journal.begin(request); journal.observe(request, event); journal.end(request, outcome).result()

In: requests and events, from any thread. Out: entries for the writer. `record` is for everything else that belongs in the audit
log: keys, tenants, policies, what operators do. Drafts whose end never comes are forgotten after MAX_DRAFTS later ones.
Time: 10 µs a request on the event loop; the writer's thread does the rest.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from assistant.conversation.events import Event
from service.access.caller import LOCAL_TENANT, Caller
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import AnswerOutcome, Decision, DirectPiece, ModelDescription
from service.clock import Clock, now
from service.database.database import Database
from service.journal.audit_heads import AuditHeads
from service.journal.audit_log import AuditEvent, AuditLog
from service.journal.journal_entry import EntryDraft, JournalEntry, Storage
from service.journal.journal_writer import JournalWriter
from service.journal.kept_policies import keep_policies
from service.journal.persons import name_user
from service.journal.retention import RetentionSweep
from service.policy.content_checker import Masker
from service.policy.policy_store import PolicyChange, PolicyStore
from service.tooling.guarded_tools import ToolUse

MAX_DRAFTS = 10_000
ALL_KINDS = ("*",)  # of what is masked before it is stored


class AnswerJournal:
    """The seam `AnswerRecorder`. `masker` removes what a policy masks; without it, what should be masked is not stored."""

    def __init__(
        self,
        writer: JournalWriter,
        policies: PolicyStore,
        describe: Callable[[], ModelDescription],
        masker: Masker | None = None,
        hash_profile: Callable[[str], str] = lambda _: "",
        clock: Clock = now,
    ) -> None:
        self.writer = writer
        self._policies, self._describe, self._masker = policies, describe, masker
        self._hash_profile, self._clock = hash_profile, clock
        self._drafts: OrderedDict[str, EntryDraft] = OrderedDict()
        self._lock = threading.Lock()
        policies.listeners.append(self._record_change)
        self._record_policies("policy.loaded", LOCAL_TENANT, {"policy": policies.list_policies()[0].hash})

    def begin(self, request: AnswerRequest) -> None:
        """Start the draft of an answer."""
        draft = EntryDraft(request, self._clock())
        with self._lock:
            self._drafts[request.id] = draft
            if len(self._drafts) > MAX_DRAFTS:
                self._drafts.popitem(last=False)

    def observe(self, request: AnswerRequest, event: Event | DirectPiece | Decision | ToolUse) -> None:
        """Add what happened to the draft."""
        with self._lock:
            draft = self._drafts.get(request.id)
            if draft is not None:
                draft.add(event)

    def end(self, request: AnswerRequest, outcome: AnswerOutcome) -> Future[None]:
        """Queue the entry. Return a future that is done when it is durable."""
        with self._lock:
            draft = self._drafts.pop(request.id, None) or EntryDraft(request, self._clock())
        model = self._describe()  # as it is now: the next version may be loaded before the thread comes to this

        def make() -> JournalEntry:  # masking a long text takes time, which the event loop does not have
            storage = self._choose_storage(request.caller.tenant)
            return draft.finish(outcome, model, self._hash_profile(request.profile), storage)

        return self.writer.submit(make)

    def record(
        self,
        caller: Caller,
        what: str,
        subject: str = "",
        about: str = "",
        details: Mapping[str, Any] | None = None,
        tenant: str | None = None,
    ) -> Future[None]:
        """Record an event of the audit log: who did what, about whom. `tenant`: whose log, if not the caller's."""
        event = AuditEvent(
            tenant=tenant or caller.tenant,
            what=what,
            user=name_user(caller.user),
            about=name_user(about),
            key_id=caller.key_id,
            subject=subject,
            details=details or {},
        )
        return self.writer.submit(JournalEntry(self._clock(), (event,)))

    def _record_change(self, change: PolicyChange) -> None:
        what = "policy.refused" if change.problem else "policy.changed"
        details = {"before": change.before, "after": change.after, "problem": change.problem[:200]}
        self._record_policies(what, change.tenant or LOCAL_TENANT, details)

    def _record_policies(self, what: str, tenant: str, details: Mapping[str, Any]) -> None:
        """Record an event of the policies, and keep the texts of those that count, for `explain`."""
        time, policies = self._clock(), self._policies.list_policies()
        event = AuditEvent(tenant, what, details=details)
        self.writer.submit(
            JournalEntry(time, (event,), write=lambda connection: keep_policies(connection, policies, time))
        )

    def _choose_storage(self, tenant: str) -> Storage:
        policy = self._policies.get(tenant)
        messages = policy.rules.storage.messages
        masker = self._masker
        if messages == "masked" and masker is None:
            messages = "off"

        def mask(text: str) -> str:
            assert masker is not None
            return masker.mask(text, ALL_KINDS)[0]

        return Storage(messages, policy.hash, mask)


def open_journal(
    database: Database,
    state: Path,
    policies: PolicyStore,
    describe: Callable[[], ModelDescription],
    masker: Masker | None = None,
    hash_profile: Callable[[str], str] = lambda _: "",
) -> AnswerJournal:
    """Return the journal of a service, with its thread and its sweeps. Its heads are in `state`/audit."""
    log = AuditLog(database, AuditHeads(state / "audit"))
    writer = JournalWriter(log, on_idle=RetentionSweep(log, policies))
    return AnswerJournal(writer, policies, describe, masker, hash_profile)
