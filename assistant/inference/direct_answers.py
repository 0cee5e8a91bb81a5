"""Put a direct answer together: what the model writes itself, as text, tokens and calls of tools that the caller offered.

In: the ids of an answer as they come, with their log-probabilities. Out: pieces of whole characters, each with its tokens; the end.
A call is yielded whole or not at all, never as text. Nothing from a stop string on is shown, nor its tokens.
Time: O(text). Memory: what is held back, and the ids of a call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from assistant.conversation.events import Done, Sampling, ToolCall
from assistant.inference.text_assembler import TextAssembler
from model.constraints.constraint_spec import ConstraintSpec
from model.constraints.offered_calls import parse_offered_reply
from model.inference.batching import TokenDetail
from model.tokenizer.tokenizer import Tokenizer


class Controls(Protocol):
    """Settings of single tokens, as a request gives them."""

    @property
    def frequency_penalty(self) -> float: ...
    @property
    def presence_penalty(self) -> float: ...
    @property
    def logit_bias(self) -> Mapping[int, float]: ...
    @property
    def n_logprobs(self) -> int | None: ...
    @property
    def stop(self) -> Sequence[str]: ...
    @property
    def min_tokens(self) -> int: ...


@dataclass(frozen=True, eq=False)
class DirectRequest:
    """A direct answer that is asked for. `owner`: whose it is; cached prefixes are shared inside of it only. It must have begun
    within `deadline_seconds`."""

    prompt: Sequence[int]
    sampling: Sampling
    controls: Controls
    constraint: ConstraintSpec | None = None
    owner: str = ""
    deadline_seconds: float | None = None


@dataclass(frozen=True)
class WrittenToken:
    """A token of an answer, with the log-probability that the model gave it, and the most probable alternatives."""

    id: int
    bytes: bytes
    logprob: float
    alternatives: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True)
class AnswerPiece:
    """Whole characters of text, the tokens that end in them (if they were asked for), a call; at the end `done`."""

    text: str = ""
    tokens: tuple[WrittenToken, ...] = ()
    call: ToolCall | None = None
    done: Done | None = None


@dataclass
class _HeldToken:
    token: WrittenToken
    start: int  # characters of the answer before it


@dataclass
class AnswerWriter:
    """The text of one answer. `is_stopped` after a stop string. `may_call`: an answer that begins with <|call|> is a call."""

    tokenizer: Tokenizer
    stops: Sequence[str] = ()
    may_call: bool = False
    call_id: str = ""
    n_tokens: int = 0
    _held: deque[_HeldToken] = field(default_factory=deque["_HeldToken"])
    _call: list[int] | None = None

    def __post_init__(self) -> None:
        self._assembler = TextAssembler(self.stops)

    @property
    def is_stopped(self) -> bool:
        return self._assembler.is_stopped

    def write(self, ids: Sequence[int], details: Sequence[TokenDetail | None]) -> tuple[str, list[WrittenToken]]:
        """Add ids. Return what may be shown now; ids after a stop string are not counted."""
        texts: list[str] = []
        for index, detail in zip(ids, details, strict=True):
            if self.n_tokens == 0 and self.may_call and index == self.tokenizer.get_special_id("call"):
                self._call = []
            self.n_tokens += 1
            if self._call is not None:
                self._call.append(index)
                continue
            start = self._assembler.n_chars
            texts.append(self._assembler.feed(self._get_bytes(index)))
            if isinstance(detail, TokenDetail):
                self._held.append(_HeldToken(self._describe(index, detail), start))
            if self.is_stopped:
                break
        return "".join(texts), self._release()

    def finish(self) -> tuple[str, list[WrittenToken], ToolCall | None]:
        """Return what was held back, or the call that the answer is; a call that was cut is neither."""
        if self._call is not None:
            return "", [], parse_offered_reply(self._call, self.tokenizer, self.call_id)
        text = self._assembler.finish()
        return text, self._release(is_end=True), None

    def _release(self, *, is_end: bool = False) -> list[WrittenToken]:
        """Return the tokens that begin before the end of the text that is shown."""
        shown, tokens = self._assembler.n_released, list[WrittenToken]()
        while self._held and (self._held[0].start < shown or (is_end and not self.is_stopped)):
            tokens.append(self._held.popleft().token)
        return tokens

    def _describe(self, index: int, detail: TokenDetail) -> WrittenToken:
        alternatives = tuple((self._get_bytes(other), logprob) for other, logprob in detail.alternatives)
        return WrittenToken(index, self._get_bytes(index), detail.logprob, alternatives)

    def _get_bytes(self, index: int) -> bytes:
        """Return the bytes of a token; none of a control token or a padding row of the model."""
        return self.tokenizer.decode_bytes([index]) if index < self.tokenizer.vocab_size else b""
