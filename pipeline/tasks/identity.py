"""Skill: who are you, what can you do → an answer that holds the words it must, the system prompt's name among them."""

from __future__ import annotations

from pipeline.tasks.item import Item, Reply

SKILL = "identity_right"


def applies(item: Item) -> bool:
    return item.kind == "identity"


def is_right(item: Item, reply: Reply) -> bool:
    return "call" not in reply and all(word.lower() in reply["content"].lower() for word in item.expected["says"])
