"""All rule filters together (Gopher quality and repetition, C4, FineWeb), documents in, decisions out: ours beside datatrove's same
filters with their default thresholds, on the same documents, one core each, by CPU time. Prints how often both decide alike.

The documents are made here from the sentences in data/seed/languages: prose of many languages, lists, code, menus, notices, tables,
repeated lines, and what these rules look for.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.measure import Result
from pipeline.params import C4, FineWeb, GopherQuality, GopherRepetition
from pipeline.text import steps
from pipeline.text.rules import PASSES, Step, first_broken, run_steps

N_DOCS, SEED, ROUNDS = 400, 1, 3
LANGUAGES = Path(__file__).parents[1] / "data" / "seed" / "languages"
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
    """The parts of the filter at the thresholds of their papers, which are datatrove's defaults."""

    gopher_quality: Step
    gopher_repetition: Step
    c4: Step
    fineweb: Step


def paper_filters() -> Filters:
    """Each set of rules as a step of its own."""
    quality = GopherQuality(
        min_words=50,
        max_words=100_000,
        min_mean_word_chars=3,
        max_mean_word_chars=10,
        max_symbol_word_frac=0.1,
        max_bullet_line_frac=0.9,
        max_ellipsis_line_frac=0.3,
        min_alpha_word_frac=0.8,
        min_stop_words=2,
    )
    return Filters(
        present(steps.gopher(quality.model_dump(), None)),
        present(steps.gopher(None, paper_repetition().model_dump())),
        present(steps.web(C4().model_dump(), None)),
        present(steps.web(None, FineWeb().model_dump())),
    )


def paper_repetition() -> GopherRepetition:
    return GopherRepetition(
        max_dup_line_frac=0.3,
        max_dup_paragraph_frac=0.3,
        max_dup_line_char_frac=0.2,
        max_dup_paragraph_char_frac=0.2,
        max_top_ngram_char_frac={2: 0.2, 3: 0.18, 4: 0.16},
        max_dup_ngram_char_frac={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1},
    )


def present(step: Step | None) -> Step:
    assert step is not None
    return step


def documents(n: int, seed: int = SEED) -> list[str]:
    """Made-up web pages of up to some 600 words."""
    chance = random.Random(seed)
    sentences = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in sorted(LANGUAGES.glob("*.txt"))}
    return [
        _document(chance, sentences["en" if chance.random() < 0.85 else chance.choice([*sentences])]) for _ in range(n)
    ]


def _document(chance: random.Random, sentences: Sequence[str]) -> str:
    """Paragraphs and lines, some of them notices, some said again."""
    n_lines, n_notices, n_repeats = (
        chance.randint(1, 40),
        chance.choice([0, 0, 0, 1, 2, 9]),
        chance.choice([0, 0, 0, 1, 3, 8]),
    )
    per_line = chance.choice([1, 1, 2, 5])
    lines = [" ".join(chance.choices(sentences, k=chance.randint(1, per_line))) for _ in range(n_lines)]
    lines += chance.choices(NOTICES, k=n_notices)
    chance.shuffle(lines)
    for _ in range(n_repeats):
        lines.insert(chance.randint(0, len(lines)), chance.choice(lines))
    if chance.random() < 0.1:
        lines = [f"{chance.choice('•-*#')} {line[: chance.randint(5, 60)]}" for line in lines]
    if chance.random() < 0.1:
        lines = [f"{line[: chance.randint(5, 80)]}{chance.choice(['...', '…', '', '.'])}" for line in lines]
    ends = chance.choice([["\n"], ["\n\n"], ["\n", "\n\n"], ["\n", "\r\n", " \n", "\n\n\n"]])
    return "".join(line + chance.choice(ends) for line in lines)


def decisions(texts: pa.StringArray, step: Step) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which documents a step's rules let pass."""
    ids = pa.array([""] * len(texts))
    scores = pa.Table.from_batches([run_steps(pa.record_batch({"id": ids, "text": texts}), [step])])
    return first_broken(scores, step.rules) == PASSES


def peer_filters() -> list[Any]:
    """datatrove's filters in the order of `Filters`, as they come."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    return [GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(), FineWebQualityFilter()]


def peer_decisions(texts: Sequence[str], filters: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """One row a filter. Its words of a document are cached for the other filters, as datatrove does."""
    from datatrove.data import Document

    kept = np.zeros((len(filters), len(texts)), bool)
    for place, text in enumerate(texts):
        for row, each in enumerate(filters):
            kept[row, place] = each.filter(Document(text=text, id="")) is True
    return kept


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def run() -> Result:
    """Bytes of text a second through all rules."""
    texts = documents(N_DOCS)
    column, filters, peers = pa.array(texts, pa.string()), paper_filters(), peer_filters()
    both = present(steps.gopher(_thresholds(filters.gopher_quality), paper_repetition().model_dump()))
    together = [both, filters.c4, filters.fineweb]
    ours = np.array([decisions(column, step) for step in filters])
    theirs = peer_decisions(texts, peers)
    best = {"ours": 1e9, "peer": 1e9} | dict.fromkeys(Filters._fields, 1e9)
    for _ in range(ROUNDS):
        best["peer"] = min(best["peer"], cpu_seconds(lambda: peer_decisions(texts, peers)))
        for _ in range(5):
            best["ours"] = min(best["ours"], cpu_seconds(lambda: [decisions(column, step) for step in together]))
            for name, step in zip(Filters._fields, filters, strict=True):
                best[name] = min(best[name], cpu_seconds(lambda step=step: decisions(column, step)))
    n_bytes = sum(len(text.encode()) for text in texts)
    alike = ", ".join(
        f"{name} {same:.2%} alike, {kept:.0%} kept, {n_bytes / best[name] / 1e6:.0f} MB/s"
        for name, same, kept in zip(Filters._fields, (ours == theirs).mean(1), theirs.mean(1), strict=True)
    )
    work = f"rules on {N_DOCS} documents of {n_bytes / N_DOCS:,.0f} bytes, one core each, CPU time: {alike}"
    return Result(
        work, "kB/s", n_bytes / best["ours"] / 1e3, n_bytes / best["peer"] / 1e3, "datatrove 0.10.1, as it comes"
    )


def _thresholds(step: Step) -> dict[str, float]:
    return {each.reason: each.threshold for each in step.rules}
