"""Hold an answer back by a sentence, and let a sentence pass only when it has been checked.

In: the pieces of an answer, and a function that says what is shown instead of a sentence (None: the sentence itself). Out: text
that may be shown. What passes is the answer, character by character, up to the first sentence that is replaced; nothing of the
answer follows that one, since what it leads up to is harmful too. A sentence without an end is checked when it has
`MAX_HELD_CHARS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_HELD_CHARS = 400
_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=\S)|\n+")

Check = Callable[[str], str | None]


class SentenceScreen:
    """Screens one answer. `is_withheld`: a sentence was replaced, and the rest is dropped."""

    def __init__(self, check: Check) -> None:
        self._check, self._held, self._context = check, "", ""
        self.is_withheld = False

    def pass_on(self, piece: str) -> str:
        """Return what may be shown after one more piece, perhaps nothing."""
        self._held += piece
        shown: list[str] = []
        while not self.is_withheld and (match := _END.search(self._held)) is not None:
            shown.append(self._release(match.end()))
        while not self.is_withheld and len(self._held) >= MAX_HELD_CHARS:
            shown.append(self._release(MAX_HELD_CHARS))
        return "".join(shown)

    def finish(self) -> str:
        """Return what is left."""
        return "" if self.is_withheld or not self._held else self._release(len(self._held))

    def _release(self, n_chars: int) -> str:
        """Check a sentence by itself and together with the one before it; return it or what is said instead."""
        sentence, self._held = self._held[:n_chars], self._held[n_chars:]
        instead = self._check(sentence) if sentence.strip() else None
        if instead is None and self._context.strip() and sentence.strip():
            instead = self._check(self._context + sentence)
        self._context = sentence
        if instead is None:
            return sentence
        self.is_withheld = True
        return instead
