"""Measure how often a reply has the form that the message demands: case, length, lists, JSON, beginning, end.

In: messages written by hand, data/seed/evaluation/demands.jsonl, each with its demands and the same message without them. The whole
assistant answers, greedy; code checks each demand (model/grounding/constraints.py). Out: whether all demands of a message are met,
and each of them; beside it how often the reply to the plain message meets them by chance.

Covers: form. Does not cover: whether the content is right, which the user's turns measure.
Paper: Zhou et al. 2023 (IFEval, strict accuracy by prompt and by instruction); the messages are our own.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from model.grounding.constraints import CHECKS, Constraint, are_met, is_met
from pipeline.evaluate.item_scores import Figure, ItemScore
from pipeline.evaluate.task import Context, Measured, Task
from pipeline.evaluate.tasks.safety import ask_each
from pipeline.frame.errors import UserError
from pipeline.frame.settings import ParamsSection, check_section
from pipeline.storage.lines import read_json_list

METRIC, EACH, UNASKED = "demands_met_frac", "demands_each_met_frac", "demands_unasked_frac"
FIGURES = (
    Figure(
        METRIC,
        "Instructions on form followed",
        "every demand of the message is met",
        baselines={UNASKED: "the reply to the message without demands", EACH: "demand by demand"},
    ),
)


class Demand(ParamsSection):
    """One demand: a key of CHECKS, and its number, text or keys."""

    kind: str
    value: int | str | list[str] = ""

    @field_validator("kind")
    @classmethod
    def _check_kind(cls, kind: str) -> str:
        if kind not in CHECKS:
            raise ValueError(f"must be one of {', '.join(CHECKS)}")
        return kind

    @property
    def constraint(self) -> Constraint:
        """The same as the checkers take it."""
        return Constraint(self.kind, tuple(self.value) if isinstance(self.value, list) else self.value)


class DemandingMessage(ParamsSection):
    """A message with demands, and the same without them."""

    id: Annotated[str, Field(min_length=1)]
    user: Annotated[str, Field(min_length=1)]
    plain: Annotated[str, Field(min_length=1)]
    demands: Annotated[list[Demand], Field(min_length=1)]


def measure_demands(context: Context) -> Measured:
    """Return the scores of all messages. Raises `UserError` for a missing or empty file, or a wrong line."""
    path = context.inputs.turns / "demands.jsonl"
    rows = read_json_list(path) if path.exists() else []
    if not rows:
        raise UserError(f"{path}: no messages", "none", "add messages (id, user, plain, demands), or remove the task")
    messages = [check_section(DemandingMessage, row, f"{path}:{number}") for number, row in rows]
    replies = ask_each(context.new_session, [text for each in messages for text in (each.user, each.plain)])
    items: list[ItemScore] = []
    for number, each in enumerate(messages):
        asked, plain = (reply.text for reply in replies[2 * number : 2 * number + 2])
        constraints = [demand.constraint for demand in each.demands]
        items.append(ItemScore(METRIC, each.id, float(are_met(constraints, asked)), prompt=each.user, answer=asked))
        items.append(ItemScore(UNASKED, each.id, float(are_met(constraints, plain)), is_baseline=True))
        items += [
            ItemScore(EACH, f"{each.id}:{index}", float(is_met(constraint, asked)), each.id)
            for index, constraint in enumerate(constraints)
        ]
    return Measured(sorted(items, key=lambda item: item.metric), FIGURES, {"n_demands": len(messages)})


DEMANDS = Task("demands", measure_demands)
