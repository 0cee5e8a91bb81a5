"""Keep responses for an hour, so that `previous_response_id` continues them and GET returns them.

In memory only: a restart forgets them, nothing reaches a disk, and another process does not have them. By tenant and person: nobody
finds the response of another. Memory: at most MAX_BYTES; the oldest are dropped.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from assistant.conversation.events import Message
from service.access.caller import Caller

SECONDS = 3_600.0
MAX_BYTES = 32_000_000
MAX_PER_TENANT = 1_000  # one tenant's requests do not drop another's before that


@dataclass(frozen=True)
class StoredResponse:
    """One response: its body, the items it was given, and the conversation up to its answer."""

    body: dict[str, Any]
    items: tuple[dict[str, Any], ...]
    messages: tuple[Message, ...]
    n_bytes: int


Key = tuple[str, str, str]


@dataclass
class ResponseStore:
    """Responses by tenant, person and id, oldest first. Used from the event loop only."""

    get_seconds: Callable[[], float] = time.monotonic
    n_bytes: int = 0
    _rows: OrderedDict[Key, tuple[float, StoredResponse]] = field(
        default_factory=OrderedDict[Key, tuple[float, StoredResponse]]
    )
    _counts: dict[str, int] = field(default_factory=dict[str, int])

    def put(self, caller: Caller, response: StoredResponse) -> None:
        """Keep a response."""
        self._expire()
        while self._rows and self.n_bytes + response.n_bytes > MAX_BYTES:
            self._drop(next(iter(self._rows)))
        if self._counts.get(caller.tenant, 0) >= MAX_PER_TENANT:
            self._drop(next(key for key in self._rows if key[0] == caller.tenant))
        key = (caller.tenant, caller.user, str(response.body["id"]))
        self._rows[key] = (self.get_seconds() + SECONDS, response)
        self._counts[caller.tenant] = self._counts.get(caller.tenant, 0) + 1
        self.n_bytes += response.n_bytes

    def get(self, caller: Caller, id: str) -> StoredResponse | None:
        """Return a response of this person."""
        self._expire()
        row = self._rows.get((caller.tenant, caller.user, id))
        return row[1] if row is not None else None

    def delete(self, caller: Caller, id: str) -> bool:
        """Forget a response; return whether there was one."""
        key = (caller.tenant, caller.user, id)
        return key in self._rows and self._drop(key)

    def drop_person(self, tenant: str, user: str = "") -> None:
        """Forget the responses of a tenant, or of one of its users."""
        for key in [key for key in self._rows if key[0] == tenant and user in ("", key[1])]:
            self._drop(key)

    def _expire(self) -> None:
        while self._rows:
            key = next(iter(self._rows))
            if self._rows[key][0] > self.get_seconds():
                return
            self._drop(key)

    def _drop(self, key: Key) -> bool:
        _, response = self._rows.pop(key)
        self.n_bytes -= response.n_bytes
        self._counts[key[0]] -= 1
        return True
