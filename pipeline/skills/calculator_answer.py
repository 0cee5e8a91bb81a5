"""Skill: the calculator's result → the sentence that gives it to the person, every digit right."""

from __future__ import annotations

from model.tokenizer.chat import Message
from pipeline.skills.skill import Item

SKILL = "calculator_answer_exact"


def applies(item: Item) -> bool:
    return item.kind == "calculator" and not item.is_first_turn


def is_right(item: Item, reply: Message) -> bool:
    return reply.call is None and reply.text.strip() == item.expected["answer"]
