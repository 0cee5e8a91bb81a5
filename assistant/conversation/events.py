"""What flows between the parts of the assistant: messages in, events out, and what one conversation keeps in between.

Plain data, the standard library only, so that everything but the engine can be tested without a network of weights. Messages,
calls and sampling settings are the model's own (model.tokenizer.chat, model.inference.sampling), and reach the assistant's other modules from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from model.inference.sampling import Sampling
from model.tokenizer.chat import Message, ToolCall

__all__ = [
    "ConversationCache",
    "Done",
    "Engine",
    "Event",
    "Message",
    "Notice",
    "Sampling",
    "TextPiece",
    "ToolCall",
    "ToolResult",
]


@dataclass(eq=False)
class ConversationCache:
    """What an engine keeps of one conversation, so that a turn costs its new tokens only. Belongs to one session.

    Memory: ids of the messages that fit into the window, and their keys and values (model.inference.generate.Prefix: 0.8 MB at most for the
    default model).
    """

    engine: Any = None  # the one that filled it; another engine starts afresh
    turns: dict[Message, list[int]] = field(default_factory=dict[Message, list[int]])
    prefix: Any = None  # a model.inference.generate.Prefix


@dataclass(frozen=True)
class TextPiece:
    """The next piece of the answer, whole characters only."""

    text: str


@dataclass(frozen=True)
class ToolResult:
    call: ToolCall
    text: str


@dataclass(frozen=True)
class Notice:
    """Something the person should know that is no part of the answer."""

    text: str


@dataclass(frozen=True)
class Done:
    """One generation has ended. `reason`: end (the model closed its turn), length (max_tokens) or window (no room is left).
    `n_cached_tokens` of the prompt were cached, the others computed."""

    n_prompt_tokens: int
    n_tokens: int
    seconds: float
    first_token_seconds: float
    reason: str
    n_cached_tokens: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Of the tokens after the first, whose time is mostly the reading of the prompt."""
        later = self.seconds - self.first_token_seconds
        return (self.n_tokens - 1) / later if self.n_tokens > 1 and later > 0 else 0.0


Event = TextPiece | ToolCall | ToolResult | Notice | Done


class Engine(Protocol):
    """What a session asks of a model. `is_chat` is false for a base model, which can only continue a text."""

    is_chat: bool

    def reply(
        self, messages: Sequence[Message], sampling: Sampling, memory: ConversationCache | None = None
    ) -> Iterator[Event]: ...

    def continuation(self, text: str, sampling: Sampling) -> Iterator[Event]: ...
