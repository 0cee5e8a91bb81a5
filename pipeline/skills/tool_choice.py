"""Skill: the right tool, or none where none is needed (small talk, refusals, a text that came with the question).

Look-alikes of unsafe requests are left out: to search for them and to answer them are both right.
"""

from __future__ import annotations

from model.tokenizer.chat import Message
from pipeline.skills.skill import Item

SKILL = "tool_chosen"


def applies(item: Item) -> bool:
    return item.is_first_turn and item.kind != "harmless"


def is_right(item: Item, reply: Message) -> bool:
    wanted, called = item.expected_call, reply.call
    return (called.name if called else None) == (wanted.name if wanted else None)
