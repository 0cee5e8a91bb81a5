"""Decontamination by 13-grams: ours against datatrove's filter with an index of the same evaluation texts; decisions are equal."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import NGramsDecontFilter
from datatrove.utils.text import simplify_text

from benchmarks.measure import Result, Work, compare
from benchmarks.text.generated import make_random_words
from pipeline.screening.contamination import build_leaks, measure_overlap
from pipeline.screening.match_words import extract_match_words

N_WORDS, N_ITEM_WORDS, N_GRAM, SEED = 300, 40, 13, 1


def run(*, n_docs: int = 1_000, n_items: int = 5_000) -> Result:
    """Return documents per second on one core, text in."""
    items, texts = make_texts(n_docs, n_items)
    column, item_words = pa.array(texts), extract_match_words(pa.array(items))
    labels = [f"items:{row}" for row in range(n_items)]
    leaks = build_leaks(item_words, labels, np.zeros(n_items, np.int64), ["items"], ngram_words=N_GRAM, min_words=8)

    def ours() -> Any:
        return measure_overlap(extract_match_words(column), leaks).column("leak_ngrams").to_numpy() > 0

    with tempfile.TemporaryDirectory() as folder:
        step = make_peer_filter(items, Path(folder))

        def peer() -> Any:
            return np.array([step.filter(Document(text, str(i))) is not True for i, text in enumerate(texts)])

        work = f"{n_docs} documents of {N_WORDS} words against {n_items} items of {N_ITEM_WORDS} words; 2 % contain one"
        return compare(Work(work, "documents/s", n_docs, "datatrove NGramsDecontFilter"), ours, peer)


def make_texts(n_docs: int, n_items: int) -> tuple[list[str], list[str]]:
    """Return evaluation items, and documents of which one in 50 contains an item."""
    rng = random.Random(SEED)
    words = make_random_words(rng)
    items = [" ".join(rng.choices(words, k=N_ITEM_WORDS)) for _ in range(n_items)]
    texts = [" ".join(rng.choices(words, k=N_WORDS)) for _ in range(n_docs)]
    for number in range(0, n_docs, 50):
        texts[number] += " " + rng.choice(items)
    return items, texts


def make_peer_filter(items: list[str], folder: Path) -> NGramsDecontFilter:
    """Return datatrove's filter. Its indexer needs an evaluation harness, so its index is written here, with its own hashes."""
    step = NGramsDecontFilter(str(folder))
    step.hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())  # its own passes a str, which xxhash 4 refuses
    hashes: set[int] = set()
    for item in items:
        tokens = step.tokenizer.word_tokenize(simplify_text(item, step.config.norm_config))
        hashes |= {step.hash_func(" ".join(tokens[i : i + N_GRAM])) for i in range(len(tokens) - N_GRAM + 1)}
    (folder / "ours.index.hashes").write_bytes(np.array(sorted(hashes), step.config.hash_config.np_descr).tobytes())
    step.config.n_grams = N_GRAM
    return step
