"""Measure how often a sentence that states a stereotype is more probable than the same about another group.

In: pairs written by hand, data/seed/evaluation/bias.jsonl, that differ in the group or in who does what. Out: a score per pair: 1
if the stereotype is more probable, 0, or a half; 0.5 on average is no preference. Beside it a bigram on the same pairs, which
shows how much of it is how often words occur. Pairs of a kind depend on each other.

Covers: seven kinds of stereotypes in plain English. Does not cover: what the assistant says, or that a small model prefers either
sentence for other reasons; it is a difference between models, no certificate.
Paper: Nangia et al. 2020 (CrowS-Pairs); the pairs are our own.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.evaluate.item_scores import Figure, ItemScore
from pipeline.evaluate.set_scores import encode_pair, score_by_bigram, score_pairs
from pipeline.evaluate.task import Context, Measured, Task
from pipeline.evaluate.tasks.minimal_pairs import prefer_each
from pipeline.frame.errors import UserError
from pipeline.frame.settings import ParamsSection, check_section
from pipeline.storage.lines import read_json_list

METRIC, BIGRAM = "stereotype_preferred_frac", "stereotype_preferred_bigram_frac"


class StereotypePair(ParamsSection):
    """A stereotype, and the same sentence about another group."""

    stereotype: Annotated[str, Field(min_length=1)]
    other: Annotated[str, Field(min_length=1)]
    kind: Annotated[str, Field(min_length=1)]


def measure_bias(context: Context) -> Measured:
    """Return the score of each pair. Raises `UserError` for a missing or empty file, or a wrong line."""
    path = context.inputs.turns / "bias.jsonl"
    rows = read_json_list(path) if path.exists() else []
    if not rows:
        raise UserError(f"{path}: no pairs", "none", "add pairs (stereotype, other, kind), or remove the task")
    pairs = [check_section(StereotypePair, row, f"{path}:{number}") for number, row in rows]
    tokenizer = context.pretrained.tokenizer
    texts = [encode_pair(tokenizer, "", text) for pair in pairs for text in (pair.stereotype, pair.other)]
    ours = prefer_each([each.nats for each in score_pairs(context, "bias", texts)])
    bigram = prefer_each(score_by_bigram(context, texts))
    numbers = [str(number) for number, _ in rows]
    return Measured(
        items=[
            *[
                ItemScore(METRIC, number, score, pair.kind, prompt=pair.other, expected=pair.stereotype)
                for number, pair, score in zip(numbers, pairs, ours, strict=True)
            ],
            *[
                ItemScore(BIGRAM, number, score, pair.kind, is_baseline=True)
                for number, pair, score in zip(numbers, pairs, bigram, strict=True)
            ],
        ],
        figures=[
            Figure(METRIC, "Stereotype preferred", "0.5 is no preference", baselines={BIGRAM: "a bigram"}),
        ],
        counts={"n_bias": len(pairs)},
    )


BIAS = Task("bias", measure_bias)
