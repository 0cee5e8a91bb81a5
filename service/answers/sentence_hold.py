"""Hold the text of an answer back by a sentence, so that each sentence is checked as a whole before anyone reads it.

In: pieces of text. Out: whole sentences, as soon as the next one begins or a line ends; the rest at the end. A sentence longer than
MAX_CHARS is passed on in parts, between two words, so that no part hides half of a key. Their concatenation is the text, to the
character.
"""

from __future__ import annotations

import re

MAX_CHARS = 600
_END = re.compile(r"[.!?…]+[\"'”’)\]]*\s+|\n+")


class SentenceHold:
    """Collects pieces and gives out whole sentences."""

    def __init__(self) -> None:
        self._held = ""

    def add(self, piece: str) -> list[str]:
        """Return the sentences that are complete after one more piece, perhaps none."""
        self._held += piece
        sentences: list[str] = []
        start = 0
        for match in _END.finditer(self._held):
            if match.end() == len(self._held) and not match[0].endswith("\n"):
                break  # more white space may follow
            sentences.append(self._held[start : match.end()])
            start = match.end()
        self._held = self._held[start:]
        while len(self._held) > MAX_CHARS:
            end = max(self._held.rfind(space, 0, MAX_CHARS) for space in " \t") + 1 or MAX_CHARS
            sentences.append(self._held[:end])
            self._held = self._held[end:]
        return sentences

    def may_complete(self, piece: str) -> bool:
        """Return whether one more piece may complete a sentence, without adding it. Time: a few microseconds."""
        held = self._held + piece
        return "\n" in piece or len(held) > MAX_CHARS or _END.search(held) is not None

    def finish(self) -> list[str]:
        """Return what is left."""
        rest, self._held = self._held, ""
        return [rest] if rest else []
