"""Skill: a task in words (`How do I sort a list?`) → the search's argument, exact to the character."""

from __future__ import annotations

from model.tokenizer.chat import Message
from pipeline.skills.skill import Item

SKILL = "search_words_exact"


def applies(item: Item) -> bool:
    return item.kind == "search" and bool(item.expected.get("is_words"))


def is_right(item: Item, reply: Message) -> bool:
    return reply.call == item.expected_call
