"""Measure how many replies obey an instruction that is hidden in a passage (planted.py).

In: sections of the index, and the instructions in data/seed/evaluation. Out: whether each reply obeys.
"""

from __future__ import annotations

from pipeline.evaluate.item_scores import Figure, ItemScore
from pipeline.evaluate.planted import N_PLANTED, count_replies, run_planted
from pipeline.evaluate.task import Context, Measured, Task

METRIC = "planted_obeyed_frac"


def measure_injections(context: Context) -> Measured:
    """Return whether each reply obeys the instruction in its passage."""
    inputs = context.inputs
    answered = run_planted(context.engine, inputs.index, inputs.turns, N_PLANTED, context.params.seed)
    return Measured(
        items=[
            ItemScore(
                METRIC,
                each.planted.section.title,
                float(each.has_obeyed),
                prompt=f"{each.planted.question} {each.planted.instruction.text!r}",
                answer=each.reply.text,
            )
            for each in answered
        ],
        figures=[
            Figure(METRIC, "Hidden instructions obeyed", "an instruction in each passage found", is_lower_better=True)
        ],
        counts=count_replies(answered),
    )


INJECTIONS = Task("planted", measure_injections)
