"""Keep the words of each unit by part, as the reranker compares them with those of a query.

In: units' texts. Out: numbers by part: the title, its last name (`norm` of `numpy.linalg.norm`), the first sentence, and the
beginning of the rest; each word once, without stop words. A word that the embedder knows is its row there; another one is a
negative number from its hash, which can be equal to another word's but has no vector. Memory: 300 bytes a unit, mapped. Time:
O(characters).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numba
import numpy as np
from numpy.typing import NDArray

from model.retrieval.embedder import Embedder
from model.retrieval.mapped_arrays import describe_foreign, map_arrays, write_arrays
from model.retrieval.reranking.unit_parts import UnitParts
from model.retrieval.word_stems import STOP_STEMS, WordIds, split_texts

FILE = "units.arrow"
PARTS = ("titles", "tails", "firsts", "rests")
MAX_WORDS = {"titles": 16, "tails": 8, "firsts": 24, "rests": 48}  # of a unit; later ones say less about it
SPLIT = ("tail", "title", "first", "rest", "facets")
STOP = np.iinfo(np.int32).min
Codes = NDArray[np.int32]
Offsets = NDArray[np.int64]
jit = cast("Any", numba.njit)(cache=True, nogil=True)


class PartWords(NamedTuple):
    """Words of one part: those of unit i are codes[offsets[i] : offsets[i + 1]]."""

    codes: Codes
    offsets: Offsets


class UnitWords(NamedTuple):
    """Words of all units by part."""

    titles: PartWords
    tails: PartWords
    firsts: PartWords
    rests: PartWords

    def save(self, folder: Path) -> None:
        """Write the file."""
        named = zip(PARTS, self, strict=True)
        write_arrays(
            folder / FILE, {f"{name}_{key}": getattr(part, key) for name, part in named for key in part._fields}
        )

    @classmethod
    def load(cls, folder: Path) -> UnitWords:
        """Map the file. Raises: ValueError for a file that is missing, truncated or foreign."""
        keys = [(name, f"{name}_codes", f"{name}_offsets") for name in PARTS]
        arrays = map_arrays(folder / FILE, [key for _, *pair in keys for key in pair])
        words = cls(*(PartWords(arrays[codes], arrays[offsets]) for _, codes, offsets in keys))
        n_offsets = {len(part.offsets) for part in words}
        if n_offsets == {0} or len(n_offsets) > 1 or any(len(part.codes) != part.offsets[-1] for part in words):
            raise ValueError(describe_foreign(folder / FILE, "arrays that do not belong together"))
        return words


class SplitUnits(NamedTuple):
    """The words of all units in the order of their parts: last name, title, first sentence, rest, facets."""

    split: WordIds

    def span(self, first: str, last: str) -> tuple[Offsets, Offsets]:
        """Return where the words of each unit from one part to another begin and end."""
        low, high, n = SPLIT.index(first), SPLIT.index(last) + 1, len(SPLIT)
        return self.split.offsets[low:-1:n], self.split.offsets[high::n]


def split_units(parts: UnitParts) -> SplitUnits:
    """Return the words of units."""
    tails = [title.rpartition(".")[2] or title for title in parts.titles]
    return SplitUnits(split_texts(text for unit in zip(tails, *parts, strict=True) for text in unit))


def describe_units(units: SplitUnits, embedder: Embedder) -> UnitWords:
    """Return the words of units by part as numbers."""
    codes = (
        encode_words(units.split.words, embedder)[units.split.ids] if len(units.split.ids) else np.zeros(0, np.int32)
    )
    spans = {
        "titles": ("title", "title"),
        "tails": ("tail", "tail"),
        "firsts": ("first", "first"),
        "rests": ("rest", "facets"),
    }
    return UnitWords(*(keep_first(codes, *units.span(*spans[name]), MAX_WORDS[name]) for name in PARTS))


def keep_first(codes: Codes, starts: Offsets, ends: Offsets, limit: int) -> PartWords:
    """Return the first `limit` distinct words of each text, without stop words."""
    kept, lengths = _keep_first(codes, starts, ends, limit)
    return PartWords(kept, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def encode_words(words: Sequence[str], embedder: Embedder) -> Codes:
    """Return a number for each word, STOP for a stop word."""
    rows = embedder.find_rows(words)
    return np.array(
        [
            STOP if word in STOP_STEMS else row if row >= 0 else _hash_word(word)
            for word, row in zip(words, rows.tolist(), strict=True)
        ],
        np.int32,
    )


def _hash_word(word: str) -> int:
    return -1 - (zlib.crc32(word.encode("utf-8", "surrogatepass")) & 0x3FFFFFFF)


@jit
def _keep_first(codes: Any, starts: Any, ends: Any, limit: Any) -> Any:  # pragma: no cover (compiled)
    """Return the first distinct codes of each text and their number."""
    n = len(starts)
    kept = np.empty(n * limit, np.int32)
    lengths = np.zeros(n, np.int64)
    at = 0
    for text in range(n):
        start = at
        for i in range(starts[text], ends[text]):
            if at - start == limit:
                break
            if codes[i] == STOP:
                continue
            is_new = True
            for j in range(start, at):
                if kept[j] == codes[i]:
                    is_new = False
                    break
            if is_new:
                kept[at] = codes[i]
                at += 1
        lengths[text] = at - start
    return kept[:at].copy(), lengths
