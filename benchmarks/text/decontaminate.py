"""Decontamination by 13-grams: ours beside datatrove's filter with an index of the same evaluation texts, equal decisions."""

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

from benchmarks.measure import Result, rates
from pipeline.text.decontaminate import build, overlap
from pipeline.text.normalize import fold, split_words

N_DOCS, N_WORDS, N_ITEMS, N_GRAM, SEED = 1_000, 300, 5_000, 13, 1


def texts() -> tuple[list[str], list[str]]:
    """Evaluation items of 40 words, and documents of 300 of which one in 50 holds an item."""
    rng = random.Random(SEED)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5_000)]
    items = [" ".join(rng.choices(words, k=40)) for _ in range(N_ITEMS)]
    documents = [" ".join(rng.choices(words, k=N_WORDS)) for _ in range(N_DOCS)]
    for number in range(0, N_DOCS, 50):
        documents[number] += " " + rng.choice(items)
    return items, documents


def peer_filter(items: list[str], folder: Path) -> NGramsDecontFilter:
    """datatrove's filter; its indexer needs the evaluation harness, so the index is written here, with its own hashes."""
    filter_step = NGramsDecontFilter(str(folder))
    filter_step.hash_func = xxh64  # its own hands a str to xxhash, which xxhash 4 refuses
    hashes: set[int] = set()
    for item in items:
        tokens = filter_step.tokenizer.word_tokenize(simplify_text(item, filter_step.config.norm_config))
        hashes |= {filter_step.hash_func(" ".join(tokens[i : i + N_GRAM])) for i in range(len(tokens) - N_GRAM + 1)}
    (folder / "ours.index.hashes").write_bytes(
        np.array(sorted(hashes), filter_step.config.hash_config.np_descr).tobytes()
    )
    filter_step.config.n_grams = N_GRAM
    return filter_step


def xxh64(text: str) -> int:
    return xxhash.xxh64_intdigest(text.encode())


def run() -> Result:
    """Documents a second on one core, text in; raises if one decision differs."""
    items, documents = texts()
    column = pa.array(documents)
    item_words = split_words(fold(pa.array(items)))
    labels = [f"items:{row}" for row in range(len(items))]
    leaks = build(item_words, labels, np.zeros(len(items), np.int64), ["items"], ngram_words=N_GRAM, min_words=8)

    def ours() -> Any:
        return overlap(split_words(fold(column)), leaks).column("leak_ngrams").to_numpy() > 0

    with tempfile.TemporaryDirectory() as folder:
        filter_step = peer_filter(items, Path(folder))

        def peer() -> Any:
            return np.array(
                [filter_step.filter(Document(text, str(i))) is not True for i, text in enumerate(documents)]
            )

        found = peer()
        assert np.array_equal(ours(), found)
        fast, slow = rates(ours, peer, N_DOCS)
    work = f"{N_DOCS} documents of {N_WORDS} words against {N_ITEMS} items of 40 words, {int(found.sum())} held one"
    return Result(work, "documents/s", fast, slow, "datatrove NGramsDecontFilter")
