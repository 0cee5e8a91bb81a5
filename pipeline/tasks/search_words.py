"""Skill: a task in words (`How do I sort a list?`) → the search's argument, exact to the character."""

from __future__ import annotations

from pipeline.tasks.item import Item, Reply

SKILL = "search_words_exact"


def applies(item: Item) -> bool:
    return item.kind == "search" and bool(item.expected.get("is_words"))


def is_right(item: Item, reply: Reply) -> bool:
    return reply.get("call") == item.expected["call"]
