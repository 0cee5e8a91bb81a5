"""The language of lines: ours against fastText's own predict on the same lines, on one core; labels and probabilities are equal.

Lines are what `extract_prose` extracts from documents: lower-case words. The details have the speed from whole documents on, and
with
`--pages FOLDER` how many Markdown pages in `pages.<language>/` are right and how many in other languages pass as wanted. How
good the model is on sentences that it has not seen is a test: tests/pipeline/filter/classifiers/test_language_quality.py.
"""

from __future__ import annotations

import pydoc_data.topics
import random
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.measure import ROOT, Result, Row, Work, compare, measure_rate
from pipeline.filter.classifiers.fasttext import check_same, read_model
from pipeline.filter.classifiers.language import extract_prose, judge
from pipeline.filter.classifiers.language_training import judge_texts, load_model, read_sentences, train_language
from pipeline.filter.params import Language
from pipeline.params import load_params

N_LINES, FOREIGN_FRAC, SEED = 40, 0.3, 1
LANGUAGES = ROOT / "data" / "seed" / "languages"


def run(*, n_docs: int = 4_000, pages: Path | None = None) -> Result:
    """Return megabytes of lines per second."""
    params, texts = load_params(ROOT / "params.yaml").filter.language, pa.array(make_texts(n_docs))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "language.bin"
        train_language(params, LANGUAGES, path.parent, path)
        model, fasttext_model, lines = load_model(path), read_model(path), extract_prose(texts, params.max_prose_bytes)
        lines_list: list[str] = lines.to_pylist()

        def ours() -> Any:
            return judge(model, lines, params.keep)

        def peer() -> Any:
            return fasttext_model.predict(lines_list, k=1)

        def is_same(_: Any, __: Any) -> bool:
            check_same(path, lines)  # raises if one label or probability differs
            return True

        def details() -> list[Row]:
            whole = measure_rate(lambda: judge_texts(params, path, texts), texts.nbytes / 1e6)
            rows: list[Row] = [{"variant": "ours from documents on", "value": whole, "unit": "MB/s of documents"}]
            return rows if pages is None else [*rows, *judge_pages(params, path, pages)]

        megabytes = lines.nbytes / 1e6
        work = f"lines of {n_docs} documents, {megabytes:.0f} MB, {FOREIGN_FRAC:.0%} in other languages"
        described = Work(work, "MB/s", megabytes, "fastText predict, the most probable label only")
        return compare(described, ours, peer, is_same=is_same, rounds=5, details=details)


def judge_pages(params: Language, model: Path, folder: Path) -> list[Row]:
    """Return how many pages get their folder's language, and how many in other languages pass as wanted."""
    files = sorted(folder.rglob("pages*/**/*.md"))
    parts = [next(part for part in path.relative_to(folder).parts if part.startswith("pages")) for path in files]
    languages = [part.partition(".")[2].partition("_")[0] or "en" for part in parts]
    found = judge_texts(params, model, pa.array([path.read_text(encoding="utf-8", errors="replace") for path in files]))
    right = sum(guess == name for guess, name in zip(found.language.to_pylist(), languages, strict=True))
    passing = [
        score >= params.min_score for score, name in zip(found.score, languages, strict=True) if name not in params.keep
    ]
    return [
        {"variant": f"right of {len(files)} pages", "value": 1_000 * right / len(files), "unit": "of 1,000"},
        {
            "variant": f"passing of {len(passing)} pages in other languages",
            "value": 1_000 * sum(passing) / len(passing),
            "unit": "of 1,000",
        },
    ]


def make_texts(n_docs: int) -> list[str]:
    """Return documents of Python's own reference in English; three in ten are sentences in another language."""
    rng, by_language = random.Random(SEED), dict[str, list[str]]()
    for sentence in read_sentences(LANGUAGES, ["en"]):
        by_language.setdefault(sentence.language, []).append(sentence.text)
    english = [line for topic in pydoc_data.topics.topics.values() for line in topic.splitlines()]
    texts: list[str] = []
    for _ in range(n_docs):
        if rng.random() < FOREIGN_FRAC:
            lines = rng.choices(by_language[rng.choice(sorted(by_language))], k=N_LINES)
        else:
            start = rng.randrange(len(english) - N_LINES)
            lines = english[start : start + N_LINES]
        texts.append("\n".join(lines))
    return texts
