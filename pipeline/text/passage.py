"""A passage: what the stage index cuts documents into, what `search_docs` returns, and what answers quote.

Kept apart from both of its users: index writes passages, conversations reads them.
"""

from __future__ import annotations

from typing import NamedTuple


class Passage(NamedTuple):
    """One passage. `sentence` is its first sentence, as it appears in `text`; `is_symbol` distinguishes a Python name from
    a title of prose."""

    id: str
    title: str
    text: str
    sentence: str
    source: str
    license: str
    is_symbol: bool

    @property
    def doc_id(self) -> str:
        return self.id.partition("-")[0]
