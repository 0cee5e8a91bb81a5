"""Skill: a question about a name → the search's argument, exact to the character."""

from __future__ import annotations

from model.tokenizer.chat import Message
from pipeline.skills.skill import Item

SKILL = "search_exact"


def applies(item: Item) -> bool:
    return item.kind == "search" and not item.expected.get("is_words")


def is_right(item: Item, reply: Message) -> bool:
    return reply.call == item.expected_call
