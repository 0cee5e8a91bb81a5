"""Remember whether a window holds text that anybody may have written, and from where.

Once it does, tools that write, run code or leave this machine are refused, whatever the model says. A sentence in a web page or in
a document may then make a model say something, but not do anything ("Design Patterns for Securing LLM Agents", 2506.08837).

In: messages of a conversation, results of tools. Out: `Taint`, the sources of untrusted text, in the order in which they came;
`KnownAnswers`, by which a history that a client sends back is recognized as our own answers from windows without such text.
Covers: results of untrusted tools, passages of collections, earlier answers that may hold either. Does not cover: a text that the
user types or pastes, who is asked for no permission to do what the user may do anyway.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from threading import Lock

from assistant.conversation.events import Message

MAX_SOURCES = 20


class Taint:
    """The untrusted sources in one window. Belongs to one conversation; it only grows until `forget`."""

    def __init__(self, sources: Iterable[str] = ()) -> None:
        self._sources: dict[str, None] = dict.fromkeys(sources)

    @property
    def is_tainted(self) -> bool:
        return bool(self._sources)

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(self._sources)

    def add(self, source: str) -> None:
        """Remember that text from this source is in the window."""
        if len(self._sources) < MAX_SOURCES:
            self._sources[source] = None

    def forget(self) -> None:
        """Forget everything, because the window is empty again."""
        self._sources.clear()


class KnownAnswers:
    """The last answers that were given in windows without untrusted text, by their digest. Thread-safe.

    Another instance, or this one after a restart, does not know them: then an earlier answer counts as untrusted.
    Memory: 200 bytes for an answer.
    """

    def __init__(self, size: int = 20_000) -> None:
        self._size, self._lock = size, Lock()
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def add(self, tenant: str, answer: str) -> None:
        """Remember an answer; the one that was added longest ago is forgotten for it."""
        with self._lock:
            self._digests[_digest(tenant, answer)] = None
            while len(self._digests) > self._size:
                self._digests.popitem(last=False)

    def has(self, tenant: str, answer: str) -> bool:
        """Return whether this answer was given to this tenant in a window without untrusted text."""
        with self._lock:
            return _digest(tenant, answer) in self._digests


def find_taint(
    messages: Sequence[Message], is_trusted: Callable[[str], bool], is_known: Callable[[str], bool]
) -> list[str]:
    """Return the untrusted sources in a history that a client sends: it says what tools returned, and it may say anything.

    A result is trusted if its tool is, an answer if we know it. A result whose call is unknown is untrusted, and one that may be of
    several calls is if one of their tools is.
    """
    sources: list[str] = []
    calls: list[tuple[str, str]] = []  # id and tool of those without a result
    for message in messages:
        if message.call is not None:
            calls.append((message.call.id, message.call.name))
        elif message.role == "tool":
            own = [call for call in calls if call[0] == message.call_id] or calls
            names = [name for _, name in own] or ["an unknown tool"]
            sources += [f"an earlier result of {name}" for name in names if not own or not is_trusted(name)]
            calls = [call for call in calls if call not in own]
        elif message.role == "assistant" and not is_known(message.text):
            sources.append("an earlier answer that may quote others")
    return list(dict.fromkeys(sources))


def _digest(tenant: str, answer: str) -> bytes:
    return hashlib.sha256(f"{tenant}\0{answer.strip()}".encode(errors="replace")).digest()
