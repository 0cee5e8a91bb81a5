"""Skill: passages of which none answers → saying so about the name that was asked for, and quoting nothing."""

from __future__ import annotations

from model.chat import Message
from pipeline.tasks.item import Item
from pipeline.text.answers import is_abstention

SKILL = "abstention_right"


def applies(item: Item) -> bool:
    return item.kind == "abstain"


def is_right(item: Item, reply: Message) -> bool:
    return reply.call is None and is_abstention(reply.text, item.expected["symbol"])
