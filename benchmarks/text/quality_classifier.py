"""The quality score of a text: ours, documents in, against fastText's own predict on the words that ours extracts, on one core.

Both use the same model: word pairs, 100 dimensions, DCLM's settings. The probabilities are equal to fastText's.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.measure import Result, Work, compare
from benchmarks.text.generated import make_random_words
from pipeline.filter.classifiers.fasttext import check_same, read_model
from pipeline.filter.classifiers.quality import extract_quality_words
from pipeline.filter.classifiers.quality_training import score_texts, train_quality
from pipeline.filter.params import QualityClassifier

N_WORDS, VOCABULARY, SEED = 300, 20_000, 1


def run(*, n_docs: int = 4_000) -> Result:
    """Return megabytes of text per second."""
    texts = make_texts(n_docs)
    column = pa.array(texts)
    with tempfile.TemporaryDirectory() as name:
        folder, sides = Path(name), list[dict[str, Any]]()
        for side in (0, 1):
            file = folder / f"side-{side}.jsonl"
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[side::2]), encoding="utf-8")
            sides.append({"files": [{"path": file.name}]})
        params = QualityClassifier.model_validate({"positives": sides[0], "negatives": sides[1], "keep_frac": 0.1})
        model = folder / "quality.bin"
        train_quality(params, folder, folder, model)
        fasttext_model, lines = read_model(model), extract_quality_words(column, params.max_chars)
        lines_list: list[str] = lines.to_pylist()

        def ours() -> Any:
            return score_texts(params, model, column)

        def peer() -> Any:
            return fasttext_model.predict(lines_list, k=1)

        def is_same(_: Any, __: Any) -> bool:
            check_same(model, lines)  # raises if one probability differs
            return True

        work = f"{n_docs} documents of {N_WORDS} words, word pairs, {params.dim} dimensions"
        described = Work(work, "MB/s", column.nbytes / 1e6, "fastText predict on the words that ours extracts")
        return compare(described, ours, peer, is_same=is_same, rounds=5)


def make_texts(n_docs: int) -> list[str]:
    """Return documents from two halves of a vocabulary, words distributed as in language: a few often, most of them rarely."""
    rng = random.Random(SEED)
    words = make_random_words(rng, VOCABULARY)
    weights = [1 / (rank + 10) for rank in range(VOCABULARY)]
    sides = weights, weights[::-1]
    return [" ".join(rng.choices(words, sides[n % 2], k=N_WORDS)).capitalize() + "." for n in range(n_docs)]
