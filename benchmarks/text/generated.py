"""Text to measure on, as much as one likes: English that nobody wrote, with the near and exact duplicates of a crawl.

Sentences are walks over the pairs of words in Python's own language reference, so that words, lengths and letters are those of
real prose and every rule, the language model too, finds work to do. The same seed and size give the same bytes.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

WORDS_PER_DOC = (40, 800)
NEAR_FRAC, EXACT_FRAC, SPOILT_FRAC = 0.05, 0.02, 0.02
BLOCK_DOCS = 2_000


def write_corpus(path: Path, n_bytes: int, seed: int = 1) -> int:
    """JSON lines with about `n_bytes` of text; returns the bytes of text."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for text in documents(seed):
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            written += len(text.encode())
            if written >= n_bytes:
                return written
    raise AssertionError("documents never end")


def documents(seed: int = 1) -> Iterator[str]:
    """Endless documents; some repeat an earlier one of their block whole or with a few words changed, some are spoilt."""
    words, firsts, counts, successors = _pairs()
    chance = np.random.Generator(np.random.PCG64(seed))
    while True:
        sizes = chance.integers(*WORDS_PER_DOC, BLOCK_DOCS)
        at = chance.integers(0, len(words), BLOCK_DOCS)
        steps = np.empty((WORDS_PER_DOC[1], BLOCK_DOCS), np.int64)
        for step in steps:
            at = successors[firsts[at] + (chance.random(BLOCK_DOCS) * counts[at]).astype(np.int64)]
            step[:] = at
        rows = [words[steps[:size, column]] for column, size in enumerate(sizes)]
        for number, kind in enumerate(chance.random(BLOCK_DOCS)):
            row = rows[number]
            if kind < NEAR_FRAC + EXACT_FRAC and number:
                row = rows[int(chance.integers(number))].copy()
                if kind < NEAR_FRAC:
                    row[chance.integers(len(row), size=max(len(row) // 100, 1))] = words[chance.integers(len(words))]
            elif kind > 1 - SPOILT_FRAC:
                row = np.tile(row[:8], len(row) // 8 + 1)
            yield _written(row)


def _pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Words, and for each word the words that follow it somewhere: a slice of `successors`."""
    found = re.findall(r"[A-Za-z][a-z']+[.,]?", " ".join(pydoc_data.topics.topics.values()))
    words, ids = np.unique(np.array(found, dtype=object), return_inverse=True)
    left, right = np.append(ids, ids[0])[:-1], np.roll(ids, -1)
    order = np.argsort(left, kind="stable")
    counts = np.bincount(left, minlength=len(words))
    return words, np.cumsum(counts) - counts, counts, right[order]


def _written(row: np.ndarray) -> str:
    """Lines of about a hundred words; a paragraph each."""
    words = row.tolist()
    return "\n\n".join(" ".join(words[start : start + 100]) + "." for start in range(0, len(words), 100))
