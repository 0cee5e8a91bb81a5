"""Screen the conversations of sources before they are trained on: license, length, duplicates, evaluation sets, held-out names.

In: conversations whose turns are checked, batch by batch. Out: for each the reason why it is left out, or its key and its number of
tokens. The first reason counts, in this order:

- license_denied, license_not_allowed, license_unknown: by the policy `conversations.licenses`
- too_long: more than `conversations.max_tokens`, by the chat template
- duplicate: the same turns as an earlier conversation, but for case, white space and compatibility characters
- names_heldout: a dotted name of a held-out document, on which skills are evaluated
- contaminated: 13 words in a row of an evaluation set (`conversations.decontamination`); a whole turn, or 13 words of it, of what
  users have typed (data/seed/evaluation) or of a held-out conversation

Memory: about 200 bytes per conversation kept, the n-grams of the sets, one batch. Time: linear; with reading and checking 6 MB
of conversations per CPU second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from model.tokenizer.chat import Message
from pipeline.conversations.chatml import ConversationError
from pipeline.screening.contamination import Leaks, build_leaks, measure_overlap
from pipeline.screening.license_policy import ALLOWED, DENIED, NOT_ALLOWED, UNKNOWN, LicensePolicy, judge_license
from pipeline.screening.match_words import extract_match_words
from pipeline.text.normalize import fold, squeeze

REASON_OF_LICENSE = {DENIED: "license_denied", NOT_ALLOWED: "license_not_allowed", UNKNOWN: "license_unknown"}
MIN_TURN_WORDS = 5  # "hi" and "what is 2 + 2" are in every collection of conversations
NGRAM_WORDS = 13
MAX_TOKEN_BYTES = 128  # per allowed token: a longer text is too long without being encoded
DOTTED = re.compile(r"(?<![A-Za-z0-9_])[A-Za-z_]\w*(?:\.\w+)+")
CountTokens = Callable[[Sequence[Sequence[Message]]], list[int]]


class Evaluated(NamedTuple):
    """The n-grams of evaluation sets, and how many of them a conversation may contain."""

    leaks: Leaks
    max_overlap_ngrams: int = 0


class Candidate(NamedTuple):
    """A conversation to be screened: its turns, its license, and where it is from."""

    messages: Sequence[Message]
    license: str
    place: str


class Passed(NamedTuple):
    """A conversation that may be trained on: the hash of its normalized turns, and its tokens."""

    key: bytes
    n_tokens: int


class ChatScreen:
    """Judges conversations one batch after the other. What is None or empty is not checked."""

    def __init__(
        self,
        *,
        policy: LicensePolicy | None = None,
        count_tokens: CountTokens | None = None,
        max_tokens: int = 0,
        names: Collection[str] = (),
        evaluated: Sequence[Evaluated] = (),
    ) -> None:
        self._policy, self._count_tokens, self._max_tokens = policy, count_tokens, max_tokens
        self._names, self._evaluated = frozenset(names), evaluated
        self._places: dict[bytes, str] = {}

    def without_policy(self) -> ChatScreen:
        """Return a screen that asks for no license and otherwise judges as this one, also what is a duplicate."""
        screen = copy(self)
        screen._policy = None
        return screen

    def judge(self, candidates: Sequence[Candidate]) -> list[Passed | ConversationError]:
        """Return the verdicts on a batch; of equal conversations the first one passes."""
        if not candidates:
            return []
        texts = [join_turns(candidate.messages) for candidate in candidates]
        sizes = self._count_sizes([candidate.messages for candidate in candidates], texts)
        keys = hash_texts(texts)
        leaked = self._find_leaks(texts)
        return [
            self._judge_one(candidate, text, size, key, leak)
            for candidate, text, size, key, leak in zip(candidates, texts, sizes, keys, leaked, strict=True)
        ]

    def _judge_one(
        self, candidate: Candidate, text: str, n_tokens: int, key: bytes, leak: str
    ) -> Passed | ConversationError:
        if self._policy and (verdict := judge_license(candidate.license, self._policy)) != ALLOWED:
            return ConversationError(REASON_OF_LICENSE[verdict], candidate.license or "none is given")
        if self._count_tokens and not 0 <= n_tokens <= self._max_tokens:
            found = f"{n_tokens:,} tokens" if n_tokens >= 0 else f"{len(text):,} characters"
            return ConversationError("too_long", f"{found}; at most {self._max_tokens:,} tokens fit")
        if (first := self._places.get(key)) is not None:
            return ConversationError("duplicate", f"of {first}")
        if self._names and "." in text and (found := self._names.intersection(DOTTED.findall(text))):
            return ConversationError("names_heldout", min(found))
        if leak:
            return ConversationError("contaminated", f"contains text of {leak}")
        self._places[key] = candidate.place
        return Passed(key, n_tokens)

    def _count_sizes(self, conversations: Sequence[Sequence[Message]], texts: Sequence[str]) -> list[int]:
        """Return the tokens of each conversation; -1 for a text of more than `MAX_TOKEN_BYTES` bytes per allowed token."""
        if self._count_tokens is None:
            return [0] * len(texts)
        limit = MAX_TOKEN_BYTES * self._max_tokens
        short = [len(text) <= limit for text in texts]
        counted = iter(
            self._count_tokens([each for each, is_short in zip(conversations, short, strict=True) if is_short])
        )
        return [next(counted) if is_short else -1 for is_short in short]

    def _find_leaks(self, texts: Sequence[str]) -> list[str]:
        """Return the first item of an evaluation set that each text contains; empty if none."""
        if not self._evaluated:
            return [""] * len(texts)
        words = extract_match_words(pa.array(texts, pa.string()))
        leaked = [""] * len(texts)
        for leaks, limit in self._evaluated:
            scores = measure_overlap(words, leaks)
            is_over = np.asarray(scores.column("leak_ngrams")) > limit
            for index in np.flatnonzero(is_over).tolist():
                leaked[index] = leaked[index] or scores.column("leak_item")[index].as_py()
        return leaked


def join_turns(messages: Sequence[Message]) -> str:
    """Return the texts and calls of all turns, each with its role."""
    return "\n".join(
        f"{message.role}: {f'{message.call.name}: {message.call.argument}' if message.call else message.text}"
        for message in messages
    )


def hash_texts(texts: Sequence[str]) -> list[bytes]:
    """Return a hash of each text that is the same for texts that differ in case, white space and compatibility characters only."""
    normalized = squeeze(fold(pa.array(texts, pa.string())))
    return [xxhash.xxh3_128_digest(text.encode()) for text in normalized.to_pylist()]


def index_turns(items: Sequence[tuple[str, str]], set_name: str) -> Evaluated | None:
    """Index (label, text) items of which no conversation may contain the whole, or `NGRAM_WORDS` words in a row; None if there
    are none."""
    if not items:
        return None
    labels, texts = zip(*items, strict=True)
    words = extract_match_words(pa.array(texts, pa.string()))
    leaks = build_leaks(
        words, labels, np.zeros(len(items), np.int64), [set_name], ngram_words=NGRAM_WORDS, min_words=MIN_TURN_WORDS
    )
    return Evaluated(leaks)
