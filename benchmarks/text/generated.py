"""Generate text to measure on: random words, and English-like documents with the near and exact duplicates of a crawl.

The sentences of `documents` are random walks over the word pairs of Python's language reference, so that words, lengths and
characters are those of prose and every rule, the language model included, has work to do. The same seed gives the same bytes.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.storage.tables import DOCS

WORDS_PER_DOC = (40, 800)
NEAR_FRAC, EXACT_FRAC, BAD_FRAC = 0.05, 0.02, 0.02
BLOCK_DOCS = 2_000


def make_random_words(rng: random.Random, n_words: int = 5_000, max_chars: int = 9) -> list[str]:
    """Return a vocabulary of random lower-case words of two characters or more."""
    return ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, max_chars))) for _ in range(n_words)]


def make_random_texts(rng: random.Random, n_docs: int, n_words: int) -> list[str]:
    """Return documents of `n_words` words from a vocabulary of 5,000."""
    words = make_random_words(rng)
    return [" ".join(rng.choices(words, k=n_words)) for _ in range(n_docs)]


def make_docs_table(texts: list[str], prefix: str = "") -> pa.Table:
    """Return the texts as rows of a document table with ascending ids; the other columns are empty."""
    n = len(texts)
    columns = {each.name: pa.repeat("", n) if each.type == pa.string() else pa.nulls(n, each.type) for each in DOCS}
    return pa.table({**columns, "id": [f"{prefix}{row:08d}" for row in range(len(texts))], "text": texts}, DOCS)


def write_corpus(path: Path, n_bytes: int, seed: int = 1) -> int:
    """Write JSON lines with at least `n_bytes` of text; return the bytes of text."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        texts = documents(seed)
        while written < n_bytes:
            text = next(texts)
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            written += len(text.encode())
    return written


def documents(seed: int = 1) -> Iterator[str]:
    """Yield documents without end; some are exact or near duplicates of an earlier one of their block, some repeat eight words."""
    words, firsts, counts, successors = _word_pairs()
    rng = np.random.Generator(np.random.PCG64(seed))
    while True:
        sizes = rng.integers(*WORDS_PER_DOC, BLOCK_DOCS)
        at = rng.integers(0, len(words), BLOCK_DOCS)
        steps = np.empty((WORDS_PER_DOC[1], BLOCK_DOCS), np.int64)
        for step in steps:
            at = successors[firsts[at] + (rng.random(BLOCK_DOCS) * counts[at]).astype(np.int64)]
            step[:] = at
        rows = [words[steps[:size, column]] for column, size in enumerate(sizes)]
        for number, kind in enumerate(rng.random(BLOCK_DOCS)):
            row = rows[number]
            if kind < NEAR_FRAC + EXACT_FRAC and number:
                row = rows[int(rng.integers(number))].copy()
                if kind < NEAR_FRAC:
                    row[rng.integers(len(row), size=max(len(row) // 100, 1))] = words[rng.integers(len(words))]
            elif kind > 1 - BAD_FRAC:
                row = np.tile(row[:8], len(row) // 8 + 1)
            yield _join_words(row)


def _word_pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the words, and for each one its slice (first, count) of `successors`, the words that follow it somewhere."""
    found = re.findall(r"[A-Za-z][a-z']+[.,]?", " ".join(pydoc_data.topics.topics.values()))
    words, ids = np.unique(np.array(found, dtype=object), return_inverse=True)
    left, right = np.append(ids, ids[0])[:-1], np.roll(ids, -1)
    order = np.argsort(left, kind="stable")
    counts = np.bincount(left, minlength=len(words))
    return words, np.cumsum(counts) - counts, counts, right[order]


def _join_words(row: np.ndarray) -> str:
    """Return paragraphs of about a hundred words."""
    words = row.tolist()
    return "\n\n".join(" ".join(words[start : start + 100]) + "." for start in range(0, len(words), 100))
