"""Measure how often the assistant's answer to a problem is the right number.

In: problems in GSM8K's layout; our own are data/seed/evaluation/exact_match.jsonl. The whole assistant answers, greedy, with its
tools; the last number of its reply counts. Out: a score per problem; beside it what the problem's own last number, and the most
frequent answer of the set, would reach.

Paper: Cobbe et al. 2021 (GSM8K).
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from pipeline.evaluate.item_scores import Figure, ItemScore
from pipeline.evaluate.layouts import PROBLEMS, NumberProblem, read_last_number
from pipeline.evaluate.set_scores import TaskItems, collect_sets
from pipeline.evaluate.task import Context, Measured, Task
from pipeline.evaluate.user_turns import N_THREADS, send_text
from pipeline.frame.progress import Bar

TITLE = "Problems whose answer is a number"


def measure_exact_match(context: Context) -> Measured:
    """Return the score of each problem of each set."""
    parts = collect_sets(context, "exact_match", TITLE, PROBLEMS)
    return Measured.join([_score_set(context, part) for part in parts])


def _score_set(context: Context, part: TaskItems[NumberProblem]) -> Measured:
    new_session = context.new_session
    with Bar(f"evaluate: {part.name}", len(part.items), "answers") as bar, ThreadPoolExecutor(N_THREADS) as pool:
        replies: list[str] = []
        for reply, _ in pool.map(lambda item: send_text(new_session(), item.question), part.items):
            replies.append(reply.text)
            bar.advance(1)
    frequent = Counter(item.answer for item in part.items).most_common(1)[0][0]
    name = part.name
    items = [
        score
        for item, reply in zip(part.items, replies, strict=True)
        for score in (
            ItemScore(
                f"{name}_frac",
                item.id,
                float(read_last_number(reply) == item.answer),
                prompt=item.question,
                answer=reply,
                expected=item.answer,
            ),
            ItemScore(f"{name}_frequent_frac", item.id, float(frequent == item.answer), is_baseline=True),
            ItemScore(
                f"{name}_repeated_frac",
                item.id,
                float(read_last_number(item.question) == item.answer),
                is_baseline=True,
            ),
        )
    ]
    figure = Figure(
        f"{name}_frac",
        part.title,
        "the last number of the reply is the answer",
        baselines={
            f"{name}_repeated_frac": "the problem's last number",
            f"{name}_frequent_frac": "the most frequent answer",
        },
    )
    return Measured(sorted(items, key=lambda item: item.metric), [figure], part.counts)


EXACT_MATCH = Task("exact_match", measure_exact_match)
