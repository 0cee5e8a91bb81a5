"""What every task scores: a held-out conversation, what is expected of the assistant, and what it said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from model.tokenizer.chat import Message, ToolCall, call_from_json


class Item(NamedTuple):
    """`prompt` ends where the assistant has to speak: with a person's turn or a tool's."""

    id: str
    kind: str
    prompt: Sequence[Message]
    expected: Mapping[str, Any]

    @property
    def is_first_turn(self) -> bool:
        """The person has just spoken: now a tool may be called."""
        return self.prompt[-1].role == "user"

    @property
    def expected_call(self) -> ToolCall | None:
        call = self.expected.get("call")
        return None if call is None else call_from_json(call)


class Task(Protocol):
    """One skill: `SKILL` names its metrics; an item may count for several skills or for none."""

    @property
    def SKILL(self) -> str: ...  # noqa: N802  (a constant of the module)

    @staticmethod
    def applies(item: Item) -> bool: ...

    @staticmethod
    def is_right(item: Item, reply: Message) -> bool: ...
