"""Skill: passages of which one answers → its first sentence, word for word, and its title as the source."""

from __future__ import annotations

from model.tokenizer.chat import Message
from pipeline.skills.answers import parse_quote
from pipeline.skills.skill import Item

SKILL = "quote_exact"


def applies(item: Item) -> bool:
    return item.kind == "quote"


def is_right(item: Item, reply: Message) -> bool:
    found = parse_quote(reply.text)
    return found is not None and (found.sentence, found.title) == (item.expected["quote"], item.expected["source"])
