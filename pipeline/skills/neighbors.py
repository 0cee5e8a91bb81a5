"""Passages that a search for a name could return as well: of the same module, with the same or a similar last name.

In: passages. Out: an index that picks neighbors at random, looks up names and invents names that do not exist.
Memory: three indices over the passages. Time: O(passages · log passages) to build, O(log passages) for a query.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from random import Random

from model.grounding.matching import is_about
from pipeline.text.passage import Passage

MAX_SENTENCE_CHARS = 160
MIN_SENTENCE_WORDS = 3
MAX_TITLE_CHARS = 72
NEAR = (("tail", 0.4), ("module", 0.75), ("similar", 0.9), ("any", 1.0))  # cumulative probabilities


class PassageIndex:
    """Passages by module, by last name, and sorted by last name."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = list(passages)
        self._by_module: dict[str, list[Passage]] = defaultdict(list)
        self._by_tail: dict[str, list[Passage]] = defaultdict(list)
        for passage in self.passages:
            module, tail = _split_title(passage)
            self._by_module[module].append(passage)
            self._by_tail[tail].append(passage)
        self._sorted = sorted(self.passages, key=lambda passage: (_split_title(passage)[1], passage.title))
        self._keys = [_split_title(passage)[1] for passage in self._sorted]

    def pick_neighbor(self, passage: Passage, rng: Random) -> Passage:
        """Return a passage that a search for `passage` could return as well; rarely `passage` itself."""
        chance = rng.random()
        way = next(name for name, limit in NEAR if chance < limit)
        module, tail = _split_title(passage)
        pool = self._by_tail[tail] if way == "tail" else self._by_module[module]
        if way == "similar" or (way == "tail" and len(pool) < 2 and chance < 0.2):
            at = bisect_left(self._keys, tail)
            pool = self._sorted[max(at - 4, 0) : at + 5]
        return rng.choice(pool) if way != "any" and len(pool) > 1 else rng.choice(self.passages)

    def has_answer(self, name: str) -> bool:
        """Return whether some passage is about this name."""
        return any(is_about(passage.title, name) for passage in self._by_tail.get(name.rpartition(".")[2], ()))

    def invent_name(self, passage: Passage, rng: Random) -> str:
        """Return a plausible name: the passage's module with the last name of another passage, or with words of both last
        names mixed. It may exist by chance: check it with `has_answer`."""
        module, tail = _split_title(passage)
        other = _split_title(rng.choice(self.passages))[1]
        words = [*tail.split("_"), *other.split("_")]
        rng.shuffle(words)
        return f"{module}.{other if rng.random() < 0.5 else '_'.join(words[: rng.randint(1, 3)])}".lstrip(".")


def _split_title(passage: Passage) -> tuple[str, str]:
    """Return (module, last name) of a symbol, (title of the document, title of the passage) of prose."""
    head, _, tail = passage.title.rpartition("." if passage.is_symbol else " §")
    return (head, tail) if passage.is_symbol else (head or passage.title, passage.title)


def is_quotable(passage: Passage) -> bool:
    """Return whether the passage is public, short enough for a small model to copy, and contains a whole sentence to quote."""
    return (
        not (passage.is_symbol and "._" in "." + passage.title)
        and len(passage.sentence) <= MAX_SENTENCE_CHARS
        and len(passage.sentence.split()) >= MIN_SENTENCE_WORDS
        and len(passage.title) <= MAX_TITLE_CHARS
        and '"' not in passage.sentence
        and not passage.sentence.endswith(":")
        and passage.sentence in passage.text
    )
