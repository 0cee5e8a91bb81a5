"""Which language: our judge beside fastText's own predict on the same lines, one core, and what our judge costs from documents on.

Lines are what `prose` makes of documents: words in lower case. Raises if one label or probability differs from fastText's.
"""

from __future__ import annotations

import pydoc_data.topics
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.measure import Result, rates
from pipeline.fasttext_models import check_same, read_model
from pipeline.language_model import judge_texts, load_model, read_sentences, train_language
from pipeline.params import load_params
from pipeline.text.language import judge, prose

N_DOCS, N_LINES, FOREIGN, SEED, ROUNDS = 4_000, 40, 0.3, 1, 5
LANGUAGES = Path("data/seed/languages")


def documents() -> list[str]:
    """Python's own reference in English; three in ten are our sentences in another language."""
    rng, by_language = random.Random(SEED), dict[str, list[str]]()
    for sentence in read_sentences(LANGUAGES, ["en"]):
        by_language.setdefault(sentence.language, []).append(sentence.text)
    english = [line for topic in pydoc_data.topics.topics.values() for line in topic.splitlines()]
    texts: list[str] = []
    for _ in range(N_DOCS):
        if rng.random() < FOREIGN:
            lines = rng.choices(by_language[rng.choice(sorted(by_language))], k=N_LINES)
        else:
            start = rng.randrange(len(english) - N_LINES)
            lines = english[start : start + N_LINES]
        texts.append("\n".join(lines))
    return texts


def run() -> Result:
    """Bytes of lines a second."""
    params, texts = load_params(Path("params.yaml")).filter.language, pa.array(documents())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "language.bin"
        train_language(params, LANGUAGES, path)
        model, theirs, lines = load_model(path), read_model(path), prose(texts, params.max_prose_bytes)
        check_same(path, lines)
        work: list[str] = lines.to_pylist()

        def ours() -> Any:
            return judge(model, lines, params.keep)

        def peer() -> Any:
            return theirs.predict(work, k=1)

        def from_documents() -> Any:
            return judge_texts(params, path, texts)

        fast, slow = rates(ours, peer, lines.nbytes, ROUNDS, clock=time.process_time)
        whole, _ = rates(from_documents, peer, texts.nbytes, ROUNDS, clock=time.process_time)
    about = f"lines of {N_DOCS} documents, {lines.nbytes / 1e6:.0f} MB, {FOREIGN:.0%} foreign; the documents"
    times = whole / texts.nbytes * lines.nbytes / slow
    about += f" ({texts.nbytes / 1e6:.0f} MB), prose looked for, at {whole / 1e6:.0f} MB/s = {times:.1f}x"
    return Result(about, "bytes/s", fast, slow, "fastText's predict, likeliest label alone")
