"""Skill: the calculator's result → the sentence that gives it to the person, every digit right."""

from __future__ import annotations

from pipeline.tasks.item import Item, Reply

SKILL = "calculator_answer_exact"


def applies(item: Item) -> bool:
    return item.kind == "calculator" and not item.is_first_turn


def is_right(item: Item, reply: Reply) -> bool:
    return "call" not in reply and reply["content"].strip() == item.expected["answer"]
