"""Measure how often greedy decoding writes the last word of a text, all its tokens, and how probable the word is.

In: items in LAMBADA's layout; and our own, made from held-out documents: the last word of a sentence, which the text before it has
already. Out: a score per item, and its nats; beside them a bigram's nats, and how often the word is the one that the context
repeats most. lm-eval's `lambada` scores the same. Time: 1 s of one core for 200 items.

Paper: Paperno et al. 2016 (LAMBADA).
"""

from __future__ import annotations

from pipeline.evaluate.item_scores import Figure, ItemScore
from pipeline.evaluate.layouts import GAPS, Gap
from pipeline.evaluate.made_items import find_repeated_word, make_gaps
from pipeline.evaluate.set_scores import TaskItems, collect_sets, encode_pair, fits, score_by_bigram, score_pairs
from pipeline.evaluate.task import Context, Measured, Task

TASK = "cloze"
TITLE = "Last word of a text"
N_MADE = 200


def measure_cloze(context: Context) -> Measured:
    """Return the score of each item of each set."""
    made = make_gaps(context.documents, context.pretrained.tokenizer, N_MADE, context.params.seed)
    own = [TaskItems(TASK, TITLE, made, {f"n_{TASK}": len(made)})] if made else []
    has_sets = any(each.task == TASK for each in context.params.sets)
    sets = collect_sets(context, TASK, TITLE, GAPS) if has_sets or not made else []
    return Measured.join([_score_set(context, part) for part in (*own, *sets)])


def _score_set(context: Context, part: TaskItems[Gap]) -> Measured:
    tokenizer, seq_len = context.pretrained.tokenizer, context.pretrained.model.config.seq_len
    encoded = [(item, encode_pair(tokenizer, item.context, item.word)) for item in part.items]
    kept = [(item, pair) for item, pair in encoded if fits(pair, seq_len)]
    pairs = [pair for _, pair in kept]
    items: list[ItemScore] = []
    for (item, _), score, bigram in zip(
        kept, score_pairs(context, part.name, pairs), score_by_bigram(context, pairs), strict=True
    ):
        word = item.word.strip()
        repeated = float(find_repeated_word(item.context) == word)
        items += [
            ItemScore(
                f"{part.name}_frac", item.id, float(score.is_greedy), item.group, prompt=item.context, expected=word
            ),
            ItemScore(f"{part.name}_nats", item.id, score.nats, item.group),
            ItemScore(f"{part.name}_bigram_nats", item.id, bigram, item.group, is_baseline=True),
            ItemScore(f"{part.name}_repeated_frac", item.id, repeated, item.group, is_baseline=True),
        ]
    name = part.name
    return Measured(
        items=sorted(items, key=lambda item: item.metric),
        figures=[
            Figure(
                f"{name}_frac",
                part.title,
                "greedy decoding writes the word",
                baselines={f"{name}_repeated_frac": "the most repeated word"},
            ),
            Figure(
                f"{name}_nats",
                f"{part.title}, nats",
                "negative log-likelihood of the word",
                is_lower_better=True,
                baselines={f"{name}_bigram_nats": "a bigram"},
            ),
        ],
        counts=part.counts | {f"n_{name}_too_long": len(encoded) - len(kept)},
    )


CLOZE = Task(TASK, measure_cloze)
