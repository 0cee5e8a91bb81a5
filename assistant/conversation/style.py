"""How answers are presented, as a profile says: a sentence above quotations, a limit on the model's own text."""

from __future__ import annotations

import re
from typing import NamedTuple

_QUOTED = re.compile(r'"[^"\n]*"?')
_SENTENCE_END = re.compile(r"[.!?…]+[\"')\]]*\s|\n")  # with its white space, so that pieces join to the same text


class Style(NamedTuple):
    """`opening` is shown above an answer that quotes, and is no part of the history; `max_sentences` (0: no limit) holds for text
    that the model writes, never for a choice among quotations."""

    opening: str = ""
    max_sentences: int = 0

    def cut(self, shown: str, piece: str) -> str:
        """Return what may be shown of the next piece of a text. A sentence ends at punctuation or at a line break; not inside
        quotation marks."""
        if not self.max_sentences:
            return piece
        text = shown + piece
        masked = _QUOTED.sub(lambda match: "x" * len(match[0]), text)
        ends = [match.end() for match in _SENTENCE_END.finditer(masked)]
        end = ends[self.max_sentences - 1] if len(ends) >= self.max_sentences else len(text)
        return text[len(shown) : max(end, len(shown))]
