"""Skill: call the right tool, or none where none is needed (small talk, refusals, a text given with the question).

It scores the first turns of all other skills' items that expect a call or none. Harmless requests that look unsafe are left
out: to search and to answer are both right.
"""

from __future__ import annotations

from model.tokenizer.chat import Message
from pipeline.skills.skill import Item, Skill


def _calls_right_tool(item: Item, reply: Message) -> bool:
    expected, called = item.expected_call, reply.call
    return (called.name if called else None) == (expected.name if expected else None)


TOOL_CHOICE = Skill(
    name="tool_chosen",
    title="Right tool chosen",
    meaning="search, calculator or none, as the question requires",
    max_drop=0.02,
    applies=lambda item: item.is_first_turn and "call" in item.expected,
    is_right=_calls_right_tool,
)
