"""Skill: passages of which none answers → saying so about the name that was asked for, and quoting nothing."""

from __future__ import annotations

from pipeline.tasks.item import Item, Reply
from pipeline.text.answers import is_abstention

SKILL = "abstention_right"


def applies(item: Item) -> bool:
    return item.kind == "abstain"


def is_right(item: Item, reply: Reply) -> bool:
    return "call" not in reply and is_abstention(reply["content"], item.expected["symbol"])
