"""Skill: give an answer the form that the message demands: capitals, quotation marks, a list, JSON with a key, the value alone.

It scores the held-out texts whose instruction demands a form, by the checks of model.grounding.constraints; whether the answer is
right as well is another skill. The demands come with the examples of extraction, classification and summaries.
"""

from __future__ import annotations

from model.grounding.constraints import are_met
from model.grounding.given_texts import read_demands
from model.tokenizer.chat import Message
from pipeline.skills.skill import Item, Skill

KINDS = ("extraction", "classification", "summary")


def _has_demands(item: Item) -> bool:
    return item.kind in KINDS and bool(read_demands(item.prompt[-1].text))


def _meets_demands(item: Item, reply: Message) -> bool:
    return reply.call is None and are_met(read_demands(item.prompt[-1].text), reply.text)


FORM = Skill(
    name="form_met",
    title="Demanded form kept",
    meaning="capitals, quotation marks, lists, JSON, only the answer: checked by code",
    max_drop=0.05,
    applies=_has_demands,
    is_right=_meets_demands,
)
