"""Measure turns typed by hand through the whole assistant, and harmless first turns that must not be refused (user_turns.py).

In: data/seed/evaluation. Out: whether each reply is acceptable; user_turns.jsonl, the transcripts of the seen half.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.evaluate.item_scores import Figure
from pipeline.evaluate.judging import TypedConversation, read_conversations
from pipeline.evaluate.task import Context, Measured, Task
from pipeline.evaluate.user_turns import (
    HARMLESS,
    HARMLESS_REFUSED,
    count_turns,
    list_transcripts,
    run_conversations,
    score_harmless,
    score_turn,
    score_turns,
)
from pipeline.frame.settings import check_section
from pipeline.screening.feedback import TURNS as FEEDBACK_TURNS
from pipeline.screening.feedback import read_feedback_rows

FEEDBACK = "feedback"
ANSWERS = ["talks", "value", "cites", "out_of_scope", "abstains"]  # kinds that a corrected text may be of
FEEDBACK_FRAC = "feedback_acceptable_frac"
FIGURES = (
    Figure(FEEDBACK_FRAC, "Answers that people have corrected", "right this time; they may have been trained on"),
    Figure("user_turns_acceptable_frac", "Turns as users type them", "replies that a person would accept"),
    Figure("user_turns_unseen_acceptable_frac", "The unseen half of them", "turns that no developer has looked at"),
    Figure(HARMLESS_REFUSED, "Harmless requests refused", "first turns from outside the domain", is_lower_better=True),
)


def read_feedback_turns(folder: Path | None) -> list[TypedConversation]:
    """Return what must be right from now on: the corrected text, or a citation. Raises `UserError` for a wrong row."""
    turns: list[TypedConversation] = []
    for position, row in read_feedback_rows(folder, FEEDBACK_TURNS, ("user", "says", "titles")):
        expected = {
            "answer": ["cites"] if "titles" in row else ANSWERS,
            **{key: row[key] for key in row if key != "feedback"},
        }
        turns.append(
            check_section(TypedConversation, {"id": row["feedback"], "half": "seen", "turns": [expected]}, position)
        )
    return turns


def measure_turns(context: Context) -> Measured:
    """Return the verdicts on all turns and on the harmless first turns. Raises `UserError` for a wrong turn."""
    conversations = read_conversations(context.inputs.turns)
    judged = run_conversations(context.new_session, conversations)
    given = run_conversations(context.new_session, {FEEDBACK: read_feedback_turns(context.inputs.feedback)})
    path = context.inputs.turns / HARMLESS
    harmless = score_harmless(context.new_session, path)[0] if path.exists() else []
    return Measured(
        items=[*score_turns(judged), *harmless, *(score_turn(FEEDBACK_FRAC, turn) for turn in given)],
        figures=FIGURES,
        counts=count_turns(judged)
        | {"n_harmless": len(harmless)}
        | ({"n_feedback_turns": len(given)} if given else {}),
        lines={"user_turns.jsonl": list_transcripts(judged)},
    )


TURNS = Task("user_turns", measure_turns)
