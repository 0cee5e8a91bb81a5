"""Measure turns typed by hand through the whole assistant, and harmless first turns that must not be refused (user_turns.py).

In: data/seed/evaluation. Out: whether each reply is acceptable; user_turns.jsonl, the transcripts of the seen half.
"""

from __future__ import annotations

from pipeline.evaluate.item_scores import Figure
from pipeline.evaluate.judging import read_conversations
from pipeline.evaluate.task import Context, Measured, Task
from pipeline.evaluate.user_turns import (
    HARMLESS,
    HARMLESS_REFUSED,
    count_turns,
    list_transcripts,
    run_conversations,
    score_harmless,
    score_turns,
)

FIGURES = (
    Figure("user_turns_acceptable_frac", "Turns as users type them", "replies that a person would accept"),
    Figure("user_turns_unseen_acceptable_frac", "The unseen half of them", "turns that no developer has looked at"),
    Figure(HARMLESS_REFUSED, "Harmless requests refused", "first turns from outside the domain", is_lower_better=True),
)


def measure_turns(context: Context) -> Measured:
    """Return the verdicts on all turns and on the harmless first turns. Raises `UserError` for a wrong turn."""
    conversations = read_conversations(context.inputs.turns)
    judged = run_conversations(context.new_session, conversations)
    path = context.inputs.turns / HARMLESS
    harmless = score_harmless(context.new_session, path)[0] if path.exists() else []
    return Measured(
        items=[*score_turns(judged), *harmless],
        figures=FIGURES,
        counts=count_turns(judged) | {"n_harmless": len(harmless)},
        lines={"user_turns.jsonl": list_transcripts(judged)},
    )


TURNS = Task("user_turns", measure_turns)
