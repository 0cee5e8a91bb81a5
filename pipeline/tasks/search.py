"""Skill: a question about a name → the search's argument, exact to the character."""

from __future__ import annotations

from pipeline.tasks.item import Item, Reply

SKILL = "search_exact"


def applies(item: Item) -> bool:
    return item.kind == "search" and not item.expected.get("is_words")


def is_right(item: Item, reply: Reply) -> bool:
    return reply.get("call") == item.expected["call"]
