"""Skill: a calculation in words or figures → the calculator's argument, exact to the character."""

from __future__ import annotations

from model.tokenizer.chat import Message
from pipeline.skills.skill import Item

SKILL = "calculator_exact"


def applies(item: Item) -> bool:
    return item.kind == "calculator" and item.is_first_turn


def is_right(item: Item, reply: Message) -> bool:
    return reply.call == item.expected_call
