"""The seams between the rooms of the service: one-method protocols, so that every room can be tested with plain functions.

An answer passes them in this order: `Authorizer` (may this caller do that?), `ContentPolicy` (input), `Limiter` (quota and queue),
`Inference` or a session over it, `ContentPolicy` again (passages, tool results, output), `AnswerRecorder` (journal, metrics).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from assistant.conversation.events import Done, Engine, Event, Message, ToolCall
from service.access.caller import Caller
from service.answers.answer_request import AnswerRequest

Place = Literal["input", "passage", "tool_result", "output"]
Action = Literal["allow", "mask", "flag", "block"]


@dataclass(frozen=True)
class Decision:
    """What a policy decided, by which rule, and why. `text` is what may be used instead (masked, or the sentence that is said when
    the text is blocked). `scores` are the classifier's, `policy_hash` names the policy's bytes."""

    action: Action = "allow"
    rules: tuple[str, ...] = ()
    reason: str = ""
    text: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    policy_hash: str = ""

    @property
    def is_allowed(self) -> bool:
        return self.action != "block"


class Authorizer(Protocol):
    """Decides who may do what (Cedar)."""

    def authorize(
        self, caller: Caller, action: str, resource: str, context: Mapping[str, Any] | None = None
    ) -> Decision: ...


class ContentPolicy(Protocol):
    """Decides about texts: the guard's scores against the tenant's thresholds, and what is masked."""

    def check(self, caller: Caller, place: Place, text: str, profile: str = "") -> Decision: ...

    def is_checked(self, caller: Caller, place: Place, profile: str = "") -> bool:
        """Return whether anything may be done to texts of this place; if not, output is not held back either."""
        ...


class Limiter(Protocol):
    """Admits requests: per key requests, tokens (reserved, then corrected) and concurrency. Raises: ServiceError 429."""

    def admit(self, caller: Caller, n_reserved_tokens: int) -> AbstractAsyncContextManager[Admission]: ...


class Admission(Protocol):
    """One admitted request. `headers` (x-ratelimit-*) are for its response."""

    headers: dict[str, str]

    def correct(self, n_tokens: int) -> None: ...  # the tokens that it really took


@dataclass(frozen=True)
class ChosenToken:
    """A generated token with its log-probability, and the most probable alternatives."""

    id: int
    text: str
    bytes: tuple[int, ...]
    logprob: float
    alternatives: tuple[tuple[str, tuple[int, ...], float], ...] = ()


@dataclass(frozen=True)
class DirectPiece:
    """A piece of a direct answer: whole characters of text, the tokens that they were, and at the end `done`."""

    text: str = ""
    tokens: tuple[ChosenToken, ...] = ()
    done: Done | None = None


@dataclass(frozen=True)
class ModelDescription:
    """What is served. `lineage` are the hashes of data, code and params that the registry has of this version."""

    name: str
    version: str
    phase: str
    seq_len: int
    vocab_size: int
    n_parameters: int
    weights: str
    lineage: Mapping[str, str] = field(default_factory=dict[str, str])


class Inference(Protocol):
    """A model that is served: in this process, in another one, or behind any OpenAI-compatible address."""

    @property
    def description(self) -> ModelDescription: ...

    def generate(self, request: AnswerRequest, choice: int = 0) -> AsyncIterator[DirectPiece | ToolCall]:
        """Answer directly. Closing the iterator cancels the generation within one step. Raises: ServiceError 400 for a prompt
        that is too long or a constraint that can't be compiled, 429 / 503 for a full queue or a missed deadline."""
        ...

    def get_engine(self, tenant: str, adapter: str = "") -> Engine:
        """Return the engine of a session, for worker threads; cached prefixes are shared inside the tenant only."""
        ...

    def count_tokens(self, text: str) -> int: ...

    def count_message(self, message: Message) -> int:
        """Return the tokens of a whole turn."""
        ...

    def tokenize(self, text: str) -> list[int]: ...

    def detokenize(self, ids: Sequence[int]) -> str: ...


class AnswerRecorder(Protocol):
    """Records answers: the journal, the audit log, metrics, traces. Never raises into an answer."""

    def begin(self, request: AnswerRequest) -> None: ...

    def observe(self, request: AnswerRequest, event: Event | DirectPiece | Decision) -> None: ...

    def end(self, request: AnswerRequest, outcome: AnswerOutcome) -> Future[None] | None:
        """Return a future that is done when the record is durable, to be awaited before the answer ends; None if nothing is stored.
        It raises ServiceError 503 if the record can't be stored."""
        ...


@dataclass(frozen=True)
class AnswerOutcome:
    """How a request ended. `reason`: stop, length, window, tool_calls, content_filter, cancelled or error."""

    reason: str
    text: str = ""
    n_prompt_tokens: int = 0
    n_tokens: int = 0
    seconds: float = 0.0
    first_token_seconds: float = 0.0
    error: str = ""
    lineage: Mapping[str, str] = field(default_factory=dict[str, str])
