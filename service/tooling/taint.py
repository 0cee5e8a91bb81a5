"""Remember whether a window holds text that anybody may have written, and from where.

Once it does, tools that write, run code or leave this machine are refused, whatever the model says. A sentence in a web page or in
a document may then make a model say something, but not do anything ("Design Patterns for Securing LLM Agents", 2506.08837).

In: messages of a conversation, results of tools. Out: `Taint`, the sources of untrusted text, in the order in which they came.
Covers: results of untrusted tools, passages of collections, quotations of them in earlier answers. Does not cover: a text that the
user types or pastes, who is asked for no permission to do what the user may do anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from assistant.conversation.events import Message

MAX_SOURCES = 20
_QUOTATION = re.compile(r'"[^\n]+?"\s*\[[^\n]+?\]')


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


def find_taint(messages: Sequence[Message], is_trusted: Callable[[str], bool]) -> list[str]:
    """Return the untrusted sources in a history that a client sends: it says what tools returned, and it may say anything.

    A result whose call is unknown is untrusted, and so is an answer that quotes a passage.
    """
    sources: list[str] = []
    name = ""
    for message in messages:
        if message.call is not None:
            name = message.call.name
        elif message.role == "tool":
            if not name or not is_trusted(name):
                sources.append(f"an earlier result of {name or 'an unknown tool'}")
            name = ""
        elif message.role == "assistant" and _QUOTATION.search(message.text):
            sources.append("a quotation in an earlier answer")
    return list(dict.fromkeys(sources))
