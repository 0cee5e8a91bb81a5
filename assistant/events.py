"""What flows between the parts of the assistant: messages in, events out, and how to sample in between.

Plain data, the standard library only, so that everything but the engine can be tested without a network of weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

Message = Mapping[
    str, Any
]  # {"role", "content"}, an assistant's may hold {"call": {"name", "argument"}} instead of content


@dataclass(frozen=True)
class Settings:
    """How to write an answer. Temperature 0 is greedy: the likeliest token, always. `top_k` 0 and `top_p` 1 keep every token."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kinds = getattr(self, field.name), (int,) if field.type == "int" else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds):
                kind = "a whole number" if field.type == "int" else "a number"
                raise ValueError(f"{field.name} must be {kind}; found {value!r}; correct it.")
        for name, low, high in (
            ("max_tokens", 1, 1_000_000),
            ("temperature", 0, 10),
            ("top_k", 0, 1_000_000),
            ("top_p", 1e-6, 1),
            ("seed", 0, 2**63 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie from {low} to {high}; found {getattr(self, name)!r}; correct it.")


@dataclass(frozen=True)
class TextPiece:
    """The next piece of the answer, whole characters only."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    name: str
    argument: str


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
    """One generation has ended. `reason`: end (the model closed its turn), length (max_tokens) or window (no room is left)."""

    n_prompt_tokens: int
    n_tokens: int
    seconds: float
    first_token_seconds: float
    reason: str

    @property
    def tokens_per_second(self) -> float:
        """Of the tokens after the first, whose time is mostly the reading of the prompt."""
        later = self.seconds - self.first_token_seconds
        return (self.n_tokens - 1) / later if self.n_tokens > 1 and later > 0 else 0.0


Event = TextPiece | ToolCall | ToolResult | Notice | Done


class Engine(Protocol):
    """What a session asks of a model. `is_chat` is false for a base model, which can only continue a text."""

    is_chat: bool

    def reply(self, messages: Sequence[Message], settings: Settings) -> Iterator[Event]: ...

    def continuation(self, text: str, settings: Settings) -> Iterator[Event]: ...
