"""Define a passage: the unit that stage index splits documents into, that `search_docs` returns and that answers quote.

It is defined here because two stages use it: index writes passages, conversations reads them.
"""

from __future__ import annotations

from typing import NamedTuple


class Passage(NamedTuple):
    """Hold one passage. `sentence` is its first sentence, as it appears in `text`; `is_symbol` distinguishes a Python name from a
    title of prose."""

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
