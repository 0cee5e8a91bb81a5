"""The rules of Gopher, C4 and FineWeb together, documents in to decisions out: ours against datatrove's filters, on one core.

Both use datatrove's default thresholds, and at least 99.5 % of the decisions are equal. The documents are made from the
sentences in data/seed/languages: prose in many languages, lists, code, menus, notices, tables, repeated lines, and what these
rules look for.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.measure import ROOT, Result, Row, Work, compare, measure_rate
from pipeline.filter import steps
from pipeline.filter.decisions import PASSES, FilterStep, find_first_broken, run_steps
from pipeline.filter.params import C4, FineWeb
from pipeline.params import load_params

LANGUAGES = ROOT / "data" / "seed" / "languages"
UNSPACED = {
    "ja",
    "lo",
    "th",
    "zh",
}  # without spaces between words: we cut words there, datatrove's English tokenizer does not
NOTICES = (
    "This site uses cookies to make your visit better.",
    "Please enable JavaScript to see this page.",
    "Read our privacy policy and terms of use.",
    "Lorem ipsum dolor sit amet, consectetur.",
    "All rights reserved (2024)",
    "Read more...",
    "The river was first named in 1872.[3] It is 12km long[citation needed].",
    "Home | News | About us | Contact",
    "Call us: it's free, e.g. on Mondays 9am-5pm, or write to info@example.org.",
    "See https://example.org/a/b?c=1 (don't miss it!).",
    "for (i = 0; i < n; i++) { total += x[i]; }",
    "def norm(x, axis=None): return x / (x ** 2).sum()",
    "- 3/4 cup of sugar",
    "• $4.50 each, 20% off",
    "#tag #another #third",
    "—",
    "",
    "   ",
    "🙂 well done!!! :-)",
    "1.5 2.25 3.125 | 40 50 60",
)


class Filters(NamedTuple):
    """Hold the parts of the filter at the thresholds of their papers, which are datatrove's defaults."""

    gopher_quality: FilterStep
    gopher_repetition: FilterStep
    c4: FilterStep
    fineweb: FilterStep


def make_paper_filters() -> Filters:
    """Return each set of rules as a step of its own, Gopher's with the thresholds of the recipe for web pages."""
    quality, repetition = make_gopher_thresholds()
    return Filters(
        present(steps.make_gopher_step(quality, None)),
        present(steps.make_gopher_step(None, repetition)),
        present(steps.make_web_step(C4().model_dump(), None)),
        present(steps.make_web_step(None, FineWeb().model_dump())),
    )


def make_gopher_thresholds() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the thresholds for quality and for repetition: those of the paper, which are datatrove's defaults."""
    params = load_params(ROOT / "docs" / "recipes" / "web.yaml").filter
    assert params.gopher_quality is not None
    assert params.gopher_repetition is not None
    return params.gopher_quality.model_dump(), params.gopher_repetition.model_dump()


def present(step: FilterStep | None) -> FilterStep:
    """Return a step that must exist."""
    assert step is not None
    return step


def documents(n: int, seed: int = 1) -> list[str]:
    """Make web pages of up to about 600 words."""
    rng = random.Random(seed)
    paths = [path for path in sorted(LANGUAGES.glob("*.txt")) if path.stem not in UNSPACED]
    sentences = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in paths}
    return [_document(rng, sentences["en" if rng.random() < 0.85 else rng.choice([*sentences])]) for _ in range(n)]


def _document(rng: random.Random, sentences: Sequence[str]) -> str:
    """Make paragraphs and lines, some of them notices, some repeated."""
    n_lines = rng.randint(1, 40)
    n_notices, n_repeats = rng.choice([0, 0, 0, 1, 2, 9]), rng.choice([0, 0, 0, 1, 3, 8])
    per_line = rng.choice([1, 1, 2, 5])
    lines = [" ".join(rng.choices(sentences, k=rng.randint(1, per_line))) for _ in range(n_lines)]
    lines += rng.choices(NOTICES, k=n_notices)
    rng.shuffle(lines)
    for _ in range(n_repeats):
        lines.insert(rng.randint(0, len(lines)), rng.choice(lines))
    if rng.random() < 0.1:
        lines = [f"{rng.choice('•-*#')} {line[: rng.randint(5, 60)]}" for line in lines]
    if rng.random() < 0.1:
        lines = [f"{line[: rng.randint(5, 80)]}{rng.choice(['...', '…', '', '.'])}" for line in lines]
    ends = rng.choice([["\n"], ["\n\n"], ["\n", "\n\n"], ["\n", "\r\n", " \n", "\n\n\n"]])
    return "".join(line + rng.choice(ends) for line in lines)


def compute_decisions(texts: pa.StringArray, step: FilterStep) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return for each document whether it passes the step's rules."""
    ids = pa.array([""] * len(texts))
    scores = pa.Table.from_batches([run_steps(pa.record_batch({"id": ids, "text": texts}), [step])])
    return find_first_broken(scores, step.rules) == PASSES


def make_peer_filters() -> list[Any]:
    """Return datatrove's filters in the order of `Filters`, with their defaults."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    return [GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(), FineWebQualityFilter()]


def compute_peer_decisions(texts: Sequence[str], filters: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return whether documents pass, one row per filter. Words of a document are cached for the next filters, as in datatrove."""
    from datatrove.data import Document

    kept = np.zeros((len(filters), len(texts)), bool)
    for column, text in enumerate(texts):
        for row, each in enumerate(filters):
            kept[row, column] = each.filter(Document(text=text, id="")) is True
    return kept


def run(*, n_docs: int = 400) -> Result:
    """Return kilobytes of text per second through all rules. Raises: `UserError` if over 0.5 % of the decisions differ."""
    texts = documents(n_docs)
    column, filters, peers = pa.array(texts, pa.string()), make_paper_filters(), make_peer_filters()
    both = present(steps.make_gopher_step(*make_gopher_thresholds()))
    kilobytes = sum(len(text.encode()) for text in texts) / 1e3

    def ours() -> Any:
        return np.array([compute_decisions(column, step) for step in (both, filters.c4, filters.fineweb)])

    def peer() -> Any:
        kept = compute_peer_decisions(texts, peers)
        return np.array([kept[0] & kept[1], kept[2], kept[3]])

    def details() -> list[Row]:
        kept, rows = compute_peer_decisions(texts, peers), list[Row]()
        for name, step, theirs in zip(Filters._fields, filters, kept, strict=True):
            mine, speed = (
                compute_decisions(column, step),
                measure_rate(lambda step=step: compute_decisions(column, step), kilobytes / 1e3),
            )
            rows.append({"filter": name, "equal %": 100 * float((mine == theirs).mean()), "MB/s": speed})
        return rows

    work = Work(
        f"all rules on {n_docs} documents, {kilobytes:,.0f} kB", "kB/s", kilobytes, "datatrove, default thresholds"
    )
    return compare(work, ours, peer, is_same=lambda a, b: (a == b).mean() >= 0.995, details=details)
