"""Hold the policies of all tenants in memory and follow the files: a valid change counts within a second.

    store = PolicyStore(folder)
    store.get("acme").rules.storage

In: a folder (default: the policies that ship). Out: a `TenantPolicy` for any tenant. At the start the files for everybody must be
valid. Later an invalid state of the folder is refused as a whole: what counted before still counts, `problem` says what is wrong,
it is logged, and /ready shows it. A tenant whose own files are invalid at the start is denied everything until they are mended.
Changes are looked for when a policy is asked for, at most once in `poll_seconds` of monotonic time, by a short thread of its own.
Time: 50 µs a second for looking; 20 ms for a change of what counts for everybody, 1 ms for each tenant with files.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.access.caller import LOCAL_TENANT
from service.policy.policy_files import DEFAULTS, PolicyFiles, read_policy_files, read_signature
from service.policy.tenant_policy import TenantPolicy, make_tenant_policy
from service.service_error import ServiceError

POLL_SECONDS = 1.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class PolicyChange:
    """A change of what counts for a tenant (empty: for everybody), for the audit log. `problem` is empty for one that was taken."""

    tenant: str
    before: str
    after: str
    problem: str = ""


@dataclass(frozen=True)
class _State:
    files: PolicyFiles
    shared: TenantPolicy
    tenants: Mapping[str, TenantPolicy]
    broken: Mapping[str, str]  # tenant: why its files were refused


class PolicyStore:
    """The policies that count now. `listeners` are called with each `PolicyChange`, in the thread that found it."""

    def __init__(
        self,
        folder: Path | None = None,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder or DEFAULTS
        self.problem = ""
        self.listeners: list[Callable[[PolicyChange], None]] = []
        self._poll_seconds, self._clock = poll_seconds, clock
        self._lock = threading.Lock()
        self._refused: object = None  # the signature of the folder's state that was refused last
        self._state = _parse(read_policy_files(self.folder))
        for tenant, problem in self._state.broken.items():
            _LOG.error("policy of tenant %s refused: %s", tenant, problem)
        self._next_poll = clock() + poll_seconds

    def get(self, tenant: str) -> TenantPolicy:
        """Return what counts for a tenant. Raises: ServiceError 503 for one whose files have been invalid since the start."""
        if self._clock() >= self._next_poll:
            self._next_poll = self._clock() + self._poll_seconds
            threading.Thread(target=self._poll, name="policies", daemon=True).start()  # nobody waits for a disk
        state = self._state
        if tenant in state.broken:
            raise ServiceError(
                503,
                "policy: the tenant's policy is invalid; found an error in its files; the operator must mend them.",
                code="policy_invalid",
            )
        return state.tenants.get(tenant) or state.shared

    def follow(self) -> Callable[[], None]:
        """Look for changes in a thread, also while nobody asks, so that the next request sees them. Return what ends it."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(self._poll_seconds):
                self._poll()

        threading.Thread(target=look, name="policies", daemon=True).start()
        return ended.set

    def refresh(self) -> None:
        """Look for changes now, and take a valid one before returning."""
        with self._lock:
            self._follow()

    def list_problems(self, tenant: str = LOCAL_TENANT) -> list[str]:
        """Return what is wrong with the files, as far as a tenant's operators may know: theirs, and those for everybody."""
        broken = [f"{name}: {problem}" for name, problem in self._state.broken.items()]
        problems = [*broken, *([self.problem] if self.problem else [])]
        owners = [
            re.split("[:/]", problem)[0] for problem in problems
        ]  # acme: …, acme/content.yaml: …, content.yaml: …
        is_shown = [tenant in (LOCAL_TENANT, owner) or "." in owner for owner in owners]
        return [problem for problem, is_known in zip(problems, is_shown, strict=True) if is_known]

    def list_policies(self) -> list[TenantPolicy]:
        """Return the policy for everybody (tenant: empty), then those of tenants with files of their own."""
        return [self._state.shared, *self._state.tenants.values()]

    def _poll(self) -> None:
        if self._lock.acquire(blocking=False):  # else another thread is at it
            try:
                self._follow()
            finally:
                self._lock.release()

    def _follow(self) -> None:
        signature: object = None
        try:
            signature = read_signature(self.folder)
            if signature == self._state.files.signature:
                self.problem, self._refused = "", None  # also after a refused change was taken back
                return
            if signature == self._refused:
                return
            files = read_policy_files(self.folder)
            state = _parse(files, before=self._state)
        except ValueError as error:
            self._refuse(signature, str(error))
            return
        before, self._state = self._state, state
        self.problem, self._refused = "", None
        for change in _compare(before, state):
            _LOG.info("policy of %s changed: %s → %s", change.tenant or "everybody", change.before, change.after)
            self._tell(change)

    def _refuse(self, signature: object, problem: str) -> None:
        if problem == self.problem and signature == self._refused:
            return
        self.problem, self._refused = problem, signature
        _LOG.error("policies: a change is refused, what counted before still counts: %s", problem)
        self._tell(PolicyChange("", self._state.shared.hash, "", problem))

    def _tell(self, change: PolicyChange) -> None:
        for listener in self.listeners:
            listener(change)


def _parse(files: PolicyFiles, before: _State | None = None) -> _State:
    """Return the parsed policies. Without a state before, a tenant's invalid files are kept in mind instead of refused."""
    known = {policy.tenant: policy for policy in (before.shared, *before.tenants.values())} if before else {}

    def make(tenant: str) -> TenantPolicy:
        texts = files.select(tenant)
        is_known = before is not None and tenant in known and before.files.select(tenant) == texts
        return known[tenant] if is_known else make_tenant_policy(tenant, texts)

    shared = make("")
    tenants: dict[str, TenantPolicy] = {}
    broken: dict[str, str] = {}
    for tenant in files.list_tenants():
        try:
            tenants[tenant] = make(tenant)
        except ValueError as error:
            if before is not None:
                raise
            broken[tenant] = str(error)
    return _State(files, shared, tenants, broken)


def _compare(before: _State, after: _State) -> list[PolicyChange]:
    changes = (
        [PolicyChange("", before.shared.hash, after.shared.hash)] if before.shared.hash != after.shared.hash else []
    )
    for tenant in sorted({*before.tenants, *after.tenants, *before.broken}):
        old = (before.tenants.get(tenant) or before.shared).hash if tenant not in before.broken else ""
        new = (after.tenants.get(tenant) or after.shared).hash
        if old != new:
            changes.append(PolicyChange(tenant, old, new))
    return changes
