"""Measure how often the acceptable sentence of a minimal pair is more probable than the other one.

In: pairs by paradigm, in BLiMP's layout. Out: a score per pair: 1, 0, or a half for equal probabilities; beside it what a bigram
and "the shorter sentence wins" reach on the same pairs. Pairs of a paradigm depend on each other: the standard error is that over
paradigms. Time: 10 s of one core for 10,000 pairs and 3 million parameters.

Paper: Warstadt et al. 2020 (BLiMP).
"""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.evaluate.item_scores import Figure, ItemScore
from pipeline.evaluate.layouts import MINIMAL_PAIRS, MinimalPair
from pipeline.evaluate.set_scores import TaskItems, collect_sets, encode_pair, fits, score_by_bigram, score_pairs
from pipeline.evaluate.task import Context, Measured, Task

TITLE = "Minimal pairs"
TIE = 1e-9  # nats: relative to the larger of two


def measure_minimal_pairs(context: Context) -> Measured:
    """Return the score of each pair of each set."""
    parts = [_score_set(context, each) for each in collect_sets(context, "minimal_pairs", TITLE, MINIMAL_PAIRS)]
    return Measured.join(parts)


def _score_set(context: Context, part: TaskItems[MinimalPair]) -> Measured:
    tokenizer = context.pretrained.tokenizer
    encoded = [
        (pair, encode_pair(tokenizer, "", pair.good), encode_pair(tokenizer, "", pair.bad)) for pair in part.items
    ]
    seq_len = context.pretrained.model.config.seq_len
    kept = [each for each in encoded if fits(each[1], seq_len) and fits(each[2], seq_len)]
    texts = [text for _, *both in kept for text in both]
    ours = [each.nats for each in score_pairs(context, part.name, texts)]
    bigram = score_by_bigram(context, texts)
    lengths = [float(len(text)) for pair, *_ in kept for text in (pair.good, pair.bad)]
    pairs = [pair for pair, *_ in kept]
    scores = prefer_each(ours)
    return Measured(
        items=[
            *_make_scores(f"{part.name}_frac", pairs, scores, has_texts=True),
            *_make_scores(f"{part.name}_bigram_frac", pairs, prefer_each(bigram), is_baseline=True),
            *_make_scores(f"{part.name}_shorter_frac", pairs, prefer_each(lengths), is_baseline=True),
            *[
                ItemScore(f"{part.name}_{pair.group}_frac", pair.id, score)
                for pair, score in zip(pairs, scores, strict=True)
            ],
        ],
        figures=[
            Figure(
                f"{part.name}_frac",
                part.title,
                "the acceptable sentence is the more probable one",
                baselines={f"{part.name}_bigram_frac": "a bigram", f"{part.name}_shorter_frac": "the shorter sentence"},
            )
        ],
        counts=part.counts | {f"n_{part.name}_too_long": len(encoded) - len(kept)},
    )


def prefer_each(costs: Sequence[float]) -> list[float]:
    """Return for each two costs, of the right and of the wrong one, whether the first is lower."""
    return [prefer_first(*costs[at : at + 2]) for at in range(0, len(costs), 2)]


def prefer_first(first: float, second: float) -> float:
    """Return 1 if the first cost is lower, 0 if it is higher, a half for equal ones."""
    if abs(first - second) <= TIE * max(abs(first), abs(second)):
        return 0.5
    return float(first < second)


def _make_scores(
    metric: str,
    pairs: Sequence[MinimalPair],
    scores: Sequence[float],
    *,
    is_baseline: bool = False,
    has_texts: bool = False,
) -> list[ItemScore]:
    return [
        ItemScore(
            metric,
            pair.id,
            score,
            pair.group,
            is_baseline=is_baseline,
            prompt=pair.bad if has_texts else "",
            expected=pair.good if has_texts else "",
        )
        for pair, score in zip(pairs, scores, strict=True)
    ]


MINIMAL_PAIRS_TASK = Task("minimal_pairs", measure_minimal_pairs)
