"""Skill: who are you, what can you do → an answer that holds the words it must, the system prompt's name among them."""

from __future__ import annotations

from model.tokenizer.chat import Message
from pipeline.skills.skill import Item

SKILL = "identity_right"


def applies(item: Item) -> bool:
    return item.kind == "identity"


def is_right(item: Item, reply: Message) -> bool:
    return reply.call is None and all(word.lower() in reply.text.lower() for word in item.expected["says"])
