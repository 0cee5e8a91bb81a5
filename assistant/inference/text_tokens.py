"""Count and translate tokens without a model: the tokenizer alone, for processes that have no weights."""

from __future__ import annotations

from collections.abc import Sequence

from assistant.conversation.events import Message
from model.constraints.offered_calls import encode_offered_turn
from model.tokenizer.tokenizer import Tokenizer


class TextTokens:
    """A tokenizer from the content of a tokenizer.json. Text is ordinary text: no control token comes of it."""

    def __init__(self, text: str | Tokenizer) -> None:
        """Raises: ValueError for another tokenizer than ours."""
        self._tokenizer = text if isinstance(text, Tokenizer) else Tokenizer(text)
        self.sha256, self.size = self._tokenizer.sha256, self._tokenizer.vocab_size

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return self._tokenizer.encode(text.encode("utf-8", "replace").decode())

    def count_turn(self, message: Message) -> int:
        """Return how many tokens a message takes in a prompt."""
        return len(encode_offered_turn(message, self._tokenizer))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids. Raises: ValueError for an id that no token has."""
        if bad := [index for index in ids if not 0 <= index < self.size]:
            raise ValueError(f"tokens must be from 0 to {self.size - 1}; found {bad[0]}; use ids of tokenize.")
        return self._tokenizer.decode(ids)
