"""The values that the assistant's parts exchange: messages in, events out, and the cache of one conversation.

Plain data from the standard library, so that everything but inference can be tested without weights. Messages, tool calls and
sampling settings are the model's own (model.tokenizer.chat, model.inference.sampling); the assistant's other modules import
them from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from model.grounding.citations import Citation
from model.inference.sampling import Sampling
from model.tokenizer.chat import Message, ToolCall

if TYPE_CHECKING:
    from model.retrieval.search_results import Search

__all__ = [
    "Citation",
    "ConversationCache",
    "Done",
    "Engine",
    "Event",
    "Message",
    "Notice",
    "Recalled",
    "ReplyOptions",
    "Sampling",
    "TextPiece",
    "ToolCall",
    "ToolResult",
]


@dataclass(eq=False)
class ConversationCache:
    """What an engine keeps of one conversation, so that a turn computes its new tokens only. Belongs to one session.

    Memory: the token ids of the history, and the keys and values of the messages in the window (model.inference.generate.Prefix:
    at most 0.8 MB for the default model).
    """

    engine: Any = None  # the engine that filled it; another engine starts with an empty cache
    turns: dict[Message, list[int]] = field(default_factory=dict[Message, list[int]])
    prefix: Any = None  # a model.inference.generate.Prefix
    n_left_out: int = 0  # messages that the user was told are left out of the window


@dataclass(frozen=True)
class TextPiece:
    """The next piece of the answer, in whole characters."""

    text: str


@dataclass(frozen=True)
class ToolResult:
    """The result of an executed tool call; of search_docs also what was found, with exact places and a trace. `decided_by`: the
    rules of a service that allowed or refused the call."""

    call: ToolCall
    text: str
    search: Search | None = None
    decided_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recalled:
    """A sentence that the user asked to remember and that has to do with the message. `source` says when it was told."""

    number: int
    text: str
    source: str


@dataclass(frozen=True)
class Notice:
    """A message to the user that is not part of the answer."""

    text: str


@dataclass(frozen=True)
class Done:
    """The end of one generation and its metrics. `reason`: end (the model closed its turn), length (max_tokens was reached) or
    window (the window is full). `n_cached_tokens` of the prompt's tokens were cached, the others were computed."""

    n_prompt_tokens: int
    n_tokens: int
    seconds: float
    first_token_seconds: float
    reason: str
    n_cached_tokens: int = 0

    @property
    def tokens_per_second(self) -> float:
        """The decoding rate: tokens after the first per second, since the first one's time is mostly prefill."""
        decode_seconds = self.seconds - self.first_token_seconds
        return (self.n_tokens - 1) / decode_seconds if self.n_tokens > 1 and decode_seconds > 0 else 0.0


@dataclass(frozen=True)
class ReplyOptions:
    """What a reply may be; the engine chooses among candidates by the model's score.

    `answers`: candidate texts; none: any text. `bonuses`: what is added to the log-probability of each answer, in nats.
    `calls`: candidate arguments by name of the tool; none: any argument. Empty `calls`: any tool. `must_call`: the reply is one of
    these calls. `instead_of_refusal`: answers than which, as than the calls, a refusal must be clearly more probable."""

    answers: tuple[str, ...] = ()
    bonuses: tuple[float, ...] = ()
    calls: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    may_call: bool = True
    must_call: bool = False
    instead_of_refusal: tuple[str, ...] = ()


Event = TextPiece | Citation | Recalled | ToolCall | ToolResult | Notice | Done


class Engine(Protocol):
    """What a session needs of a model. `is_chat` is false for a base model, which can only continue a text."""

    @property
    def is_chat(self) -> bool: ...

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        cache: ConversationCache | None = None,
        options: ReplyOptions | None = None,
    ) -> Iterator[Event]: ...

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]: ...
