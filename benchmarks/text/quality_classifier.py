"""A text's quality score: ours, documents in, beside fastText's own predict on the words that ours makes of them, one core.

Both read the same model: word pairs, 100 dimensions, DCLM's settings. Raises if one probability differs from fastText's.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.measure import Result, rates
from pipeline.fasttext_models import check_same, read_model
from pipeline.params import QualityClassifier
from pipeline.quality_model import score_texts, train_quality
from pipeline.text.quality_score import quality_words

N_DOCS, N_WORDS, N_KNOWN, SEED, ROUNDS = 4_000, 300, 20_000, 1, 5


def documents(rng: random.Random) -> list[str]:
    """Words drawn as language does, a few often and most of them seldom, from two halves of a vocabulary."""
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(N_KNOWN)]
    chances = [1 / (place + 10) for place in range(N_KNOWN)]
    sides = chances, chances[::-1]
    return [" ".join(rng.choices(words, sides[n % 2], k=N_WORDS)).capitalize() + "." for n in range(N_DOCS)]


def run() -> Result:
    """Bytes of text a second."""
    texts = documents(random.Random(SEED))
    with tempfile.TemporaryDirectory() as folder:
        model, files = Path(folder) / "quality.bin", [Path(folder) / name for name in ("even.jsonl", "odd.jsonl")]
        for side, file in enumerate(files):
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[side::2]), encoding="utf-8")
        sides = [{"files": [{"kind": "text", "name": file.stem, "path": str(file)}]} for file in files]
        params = QualityClassifier.model_validate({"positives": sides[0], "negatives": sides[1], "keep_frac": 0.1})
        train_quality(params, Path(folder), model)
        column = pa.array(texts)
        theirs, lines = read_model(model), quality_words(column, params.max_chars)
        check_same(model, lines)
        work: list[str] = lines.to_pylist()

        def ours() -> Any:
            return score_texts(params, model, column)

        def peer() -> Any:
            return theirs.predict(work, k=1)

        fast, slow = rates(ours, peer, column.nbytes, ROUNDS, clock=time.process_time)
    about = f"{N_DOCS} documents of {N_WORDS} words, word pairs, {params.dim} dimensions"
    return Result(about, "bytes/s", fast, slow, "fastText's predict on the words that we make")
