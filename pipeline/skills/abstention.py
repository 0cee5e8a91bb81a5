"""Skill: passages of which none answers → saying so about the name that was asked for, and quoting nothing."""

from __future__ import annotations

from model.tokenizer.chat import Message
from pipeline.skills.answers import is_abstention
from pipeline.skills.skill import Item

SKILL = "abstention_right"


def applies(item: Item) -> bool:
    return item.kind == "abstain"


def is_right(item: Item, reply: Message) -> bool:
    return reply.call is None and is_abstention(reply.text, item.expected["symbol"])
