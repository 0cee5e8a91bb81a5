"""Fit a conversation into a window of tokens: what is least needed is dropped first.

In: messages, a window, how many tokens to leave free. Out: the messages that fit. Priorities, highest first: the system prompt; the
last round (a question with everything after it); what is remembered of the user (further system messages at the start);
newer rounds; older rounds; the searches and calls of older rounds, whose answers quote what mattered. If the highest two
are too long, the longest message is cut in its middle.

When a conversation overflows, it is reduced to half of the window, so that the next turns only append to the prompt and a KV cache
stays valid. The overflows of earlier turns are replayed from the message sizes, so the result is a pure function of the
messages. Needs the standard library only. Time: O(tokens of all messages).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from model.tokenizer.chat import EncodeTurn, Message, Part, encode_prompt, encode_turn

if TYPE_CHECKING:
    from model.tokenizer.tokenizer import Tokenizer


def fit_to_window(
    messages: Sequence[Message], tokenizer: Tokenizer, max_tokens: int, reserve: int, encode: EncodeTurn | None = None
) -> list[Message]:
    """Return the messages that leave `reserve` tokens free in a window of `max_tokens`, the prompt's <|assistant|> included.

    Raises: ValueError when not even the control tokens fit.
    """
    encode = encode or (lambda message: encode_turn(message, tokenizer))
    budget = max_tokens - reserve
    n_system = count_system_messages(messages)
    sizes = [len(encode(message)) for message in messages]
    packing = _Packing(messages, sizes, n_system)
    for end in range(n_system, len(messages)):
        packing.add(end, budget, target=min(budget, max_tokens // 2))
    kept = [*messages[:n_system], *(messages[index] for index in packing.kept)]
    while len(encode_prompt(kept, tokenizer, encode)) > budget and count_system_messages(kept) > 1:
        del kept[count_system_messages(kept) - 1]
    while (excess := len(encode_prompt(kept, tokenizer, encode)) - budget) > 0:
        _shorten_longest(kept, tokenizer, excess)
    return kept


class _Packing:
    """The messages that are kept while a conversation grows. A round is a user message with everything up to the next one."""

    def __init__(self, messages: Sequence[Message], sizes: Sequence[int], n_system: int) -> None:
        self._messages, self._sizes = messages, sizes
        self._rounds: list[list[int]] = []
        self._n_bare = 0  # the oldest rounds, whose calls and results are dropped
        self._n_tokens = 2 + sum(sizes[:n_system])  # <|bos|> and <|assistant|>

    @property
    def kept(self) -> list[int]:
        """The indices of the messages after the system messages that are kept, in order."""
        return [index for indices in self._rounds for index in indices]

    def add(self, index: int, budget: int, target: int) -> None:
        """Add a message. A prompt ends with any message that the assistant did not write; one above `budget` tokens is reduced to
        `target` tokens, or to the last round."""
        message = self._messages[index]
        if message.role == "user" or not self._rounds:
            self._rounds.append([])
        self._rounds[-1].append(index)
        self._n_tokens += self._sizes[index]
        if self._n_tokens <= budget or (message.role == "assistant" and index < len(self._messages) - 1):
            return
        while self._n_tokens > target and self._n_bare < len(self._rounds) - 1:
            self._keep(self._n_bare, [each for each in self._rounds[self._n_bare] if not self._is_search(each)])
            self._n_bare += 1
        while self._n_tokens > target and len(self._rounds) > 1:
            self._keep(0, [])
            del self._rounds[0]
            self._n_bare -= 1

    def _keep(self, number: int, indices: list[int]) -> None:
        """Replace the messages of a round by some of them."""
        self._n_tokens -= sum(self._sizes[index] for index in self._rounds[number])
        self._n_tokens += sum(self._sizes[index] for index in indices)
        self._rounds[number] = indices

    def _is_search(self, index: int) -> bool:
        return self._messages[index].role == "tool" or self._messages[index].call is not None


def count_system_messages(messages: Sequence[Message]) -> int:
    """Return how many system messages the conversation starts with."""
    return next((n for n, message in enumerate(messages) if message.role != "system"), len(messages))


def _shorten_longest(messages: list[Message], tokenizer: Tokenizer, excess: int) -> None:
    """Cut the middle of the longest content, in place."""
    contents = [[] if message.call else tokenizer.encode(message.text) for message in messages]
    number = max(range(len(contents)), key=lambda n: len(contents[n]), default=-1)
    if number < 0 or not contents[number]:
        raise ValueError(
            f"the window is too small for this conversation; found {excess} tokens too many with all content removed; "
            "raise max_tokens or lower reserve."
        )
    ids = contents[number]
    # Cutting adds an ellipsis and may split a character or a merge, so remove a few tokens more than the excess.
    n_left = max(len(ids) - excess - 4, 0)
    head, tail = ids[: (n_left + 1) // 2], ids[len(ids) - n_left // 2 :]
    text = "…".join(tokenizer.decode_bytes(part).decode("utf-8", errors="ignore") for part in (head, tail))
    messages[number] = replace(messages[number], parts=(Part(text),) if n_left else ())
